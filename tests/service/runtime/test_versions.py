"""Tests of service.runtime.versions: which version is current as versions are added and removed.

The versions are fakes: the text of SHA256SUMS is the digest, and controls the result of loading.
"""

import contextlib
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.artifact import storage
from service.artifact.manifest import SUMS, ArtifactError, Manifest
from service.errors import Refused
from service.runtime.served_model import ServedModel
from service.runtime.versions import Versions
from tests.serving import until

NEVER_SECONDS = 86400.0
"""Poll interval that is longer than any test: only the test itself polls."""


def publish(path: Path, text: str = "good") -> None:
    """Write a version; the text is "good [<model> <version>]" or the error of a bad version."""
    path.mkdir(parents=True, exist_ok=True)
    (path / SUMS).write_text(text)


def load(path: Path) -> ServedModel:
    """Return a fake of a loaded version, or raise ArtifactError for a bad version."""
    text = (path / SUMS).read_text()
    if not text.startswith("good"):
        raise ArtifactError(text)
    model, version = text.split()[1:3] or ("x", path.name)
    description = SimpleNamespace(name=model, version=int(version))
    predictor: Any = SimpleNamespace(path=path, digest=text, manifest=description)
    return ServedModel(predictor, lambda rows: {}, 1)


def check_schema(manifest: Manifest) -> None:
    """Reject every model but x."""
    if manifest.name != "x":
        raise ArtifactError("manifest.json: another schema")


def number(served: ServedModel | None) -> int | None:
    """Return the number of a loaded version."""
    return None if served is None else served.predictor.manifest.version


def summary(versions: Versions) -> tuple[int | None, int | None, str | None]:
    """Return the current version, the previous one, and the problem."""
    current, previous, problem = versions.state
    return number(current), number(previous), problem


class Follower(contextlib.ExitStack):
    """Creates Versions, records what they load and report, and stops their polling on exit."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.reloads: list[int | None] = []
        """Numbers of the versions that became current, and None for each problem."""
        self.errors: list[Exception] = []
        """Exceptions that the next loads raise, one for each load."""

    def follow(self, find: Callable[[], Path], poll_seconds: float = NEVER_SECONDS) -> Versions:
        """Create Versions for the path that `find` returns."""

        def reload(served: ServedModel | None) -> None:
            self.reloads.append(number(served))

        versions = Versions(
            find,
            self.load,
            check_schema=check_schema,
            poll_seconds=poll_seconds,
            on_reload=reload,
        )
        self.callback(versions.close)
        return versions

    def load(self, path: Path) -> ServedModel:
        """Load a version and record its number."""
        self.loads.append(path.name)
        if self.errors:
            raise self.errors.pop(0)
        return load(path)


@pytest.fixture
def follower() -> Iterator[Follower]:
    """A Follower, closed after the test."""
    with Follower() as follower:
        yield follower


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder artifacts/x, which does not exist yet."""
    return tmp_path / "x"


def test_not_ready_until_a_version_is_published(folder: Path, follower: Follower) -> None:
    """Requests get status 503, the problem and Retry-After until a poll finds a version."""
    versions = follower.follow(lambda: folder)
    problem = f"{folder}: no such folder; expected artifacts/<name> or artifacts/<name>/<version>"
    assert (None, None, problem) == summary(versions)
    with pytest.raises(Refused, match=re.escape(f"not ready: {problem}")) as error:
        versions.find(None)
    expected = (503, "not_ready", (("Retry-After", "5"),))
    assert expected == (error.value.status, error.value.reason, error.value.headers)
    publish(folder / "1")
    versions.poll()
    assert (1, None, None) == summary(versions)


def test_first_published_name_is_followed(tmp_path: Path, follower: Follower) -> None:
    """A name that is published later is ignored."""
    versions = follower.follow(lambda: storage.only_artifact(tmp_path))
    assert "nothing is published here" in (versions.state.problem or "")
    publish(tmp_path / "b" / "1")
    versions.poll()
    publish(tmp_path / "a" / "2", "good x 2")
    versions.poll()
    assert tmp_path / "b" / "1" == versions.current.predictor.path


def test_swap(folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture) -> None:
    """The newest version is current, the version before it stays available, others are freed."""
    caplog.set_level(logging.INFO)
    publish(folder / "9", "good x 9")
    versions = follower.follow(lambda: folder)
    oldest = weakref.ref(versions.current)
    publish(folder / "10", "good x 10")
    versions.poll()
    assert [9, 10] == versions.numbers
    assert [10, 10, 9] == [number(versions.find(version)) for version in (None, "10", "9")]
    publish(folder / "11", "good x 11")
    versions.poll()
    assert oldest() is None
    lines = [f"ready: {folder / name}, digest good x {name}" for name in ("9", "10", "11")]
    assert lines == caplog.messages
    for version in ("9", "011", "x" * 10_000):
        with pytest.raises(Refused) as error:
            versions.find(version)
        assert f"expected version 10 or 11, found {version[:40]!r}" == str(error.value)
        assert (404, "not_found") == (error.value.status, error.value.reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model.onnx: bad in\ntwo lines", "model.onnx: bad in two lines"),
        ("good y 2", "manifest.json: another schema"),
    ],
)
def test_bad_version_is_never_used(
    text: str, reason: str, folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad version is loaded once, and logged once in one line that names its folder."""
    publish(folder / "1")
    versions = follower.follow(lambda: folder)
    publish(folder / "2", text)
    for _ in range(3):
        versions.poll()
    problem = f"{folder / '2'}: {reason}"
    assert (1, None, problem) == summary(versions)
    assert (["1", "2"], [1, None]) == (follower.loads, follower.reloads)
    assert [f"version 1 stays in use: {problem}"] == caplog.messages


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(24, "Too many open files"), "[Errno 24] Too many open files"),
        (MemoryError(), "MemoryError()"),
        (RuntimeError("a defect\nin two lines"), "RuntimeError('a defect\\nin two lines')"),
    ],
)
def test_error_while_loading(
    error: Exception, text: str, folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    """Loading is retried after an OSError or MemoryError; a defect rejects the version."""
    publish(folder / "1")
    loads, log_lines = (1, 2) if isinstance(error, RuntimeError) else (2, 1)
    follower.errors = [error] * loads
    versions = follower.follow(lambda: folder)
    versions.poll()
    assert (None, None, f"{folder / '1'}: {text}") == summary(versions)
    assert f"not ready: {folder / '1'}: {text}" == caplog.messages[-1]
    assert (log_lines, loads) == (len(caplog.messages), len(follower.loads))
    versions.poll()
    assert (loads == 2) == (versions.state.problem is None)


def test_polling_stops_once_a_pinned_version_is_loaded(
    folder: Path, follower: Follower, count_threads: Callable[[str], int]
) -> None:
    """For a path artifacts/<name>/<version>, the thread ends after the first load."""
    versions = follower.follow(lambda: folder / "1", 0.01)
    assert (None, 1) == (versions.state.current, count_threads("versions"))
    publish(folder / "1")
    until(lambda: 0 == count_threads("versions"))
    assert (1, None, None) == summary(versions)


def test_polling_survives_errors(folder: Path, count_threads: Callable[[str], int]) -> None:
    """Polling continues after a failed callback or a lost folder; close() stops it."""
    publish(folder / "1")
    calls: list[int | None] = []

    def fail(served: ServedModel | None) -> None:
        calls.append(number(served))
        if len(calls) > 1:
            raise RuntimeError("a defect")

    versions = Versions(
        lambda: folder, load, check_schema=check_schema, poll_seconds=0.001, on_reload=fail
    )
    publish(folder.parent / "new" / "2", "good x 2")
    (folder.parent / "new" / "2").rename(folder / "2")
    until(lambda: number(versions.current) == 2)
    hidden = folder.rename(folder.parent / "hidden")
    folder.touch()
    until(lambda: versions.state.problem is not None)
    folder.unlink()
    hidden.rename(folder)
    until(lambda: versions.state.problem is None)
    versions.close()
    assert 0 == count_threads("versions")
    assert [1, 2] == [call for call in calls if call is not None]


class FolderMachine(RuleBasedStateMachine):
    """Changes a folder at random, and compares Versions with the expected state after each poll."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name) / "x"
        self.published: dict[int, str] = {}
        """Texts of SHA256SUMS by version number."""
        self.current: tuple[int, str] | None = None
        self.previous: tuple[int, str] | None = None
        self.serial = 0
        self.follower = Follower()
        self.versions = self.follower.follow(lambda: self.folder)

    def good(self) -> list[int]:
        """Return the numbers of the good versions on disk."""
        return [number for number, text in self.published.items() if text.startswith("good")]

    @rule(version=st.integers(1, 4), good=st.booleans(), is_changed=st.booleans())
    def publish(self, version: int, good: bool, is_changed: bool) -> None:
        """Write a new version, overwrite a version, or write the same bytes again."""
        self.serial += 1
        if is_changed or version not in self.published:
            text = f"good x {version} {self.serial}" if good else f"bad\n{self.serial}"
            self.published[version] = text
        publish(self.folder / str(version), self.published[version])

    @rule(version=st.integers(1, 4))
    def delete(self, version: int) -> None:
        """Remove a version, and the folder when it becomes empty."""
        if self.published.pop(version, None):
            shutil.rmtree(self.folder / str(version) if self.published else self.folder)

    @rule()
    def poll(self) -> None:
        """The newest good version becomes current, unless a newer current version still exists."""
        current = self.current[0] if self.current and self.current[0] in self.published else 0
        best = max((number for number in self.good() if number >= current), default=None)
        if best and (best, self.published[best]) != self.current:
            self.current, self.previous = (best, self.published[best]), self.current
        self.versions.poll()
        newest = max(self.published, default=0)
        is_newest = self.current == (newest, self.published.get(newest))
        assert is_newest == (self.versions.state.problem is None)
        if self.versions.state.problem and newest:
            reason = " ".join(self.published[newest].split())
            assert f"{self.folder / str(newest)}: {reason}" == self.versions.state.problem
        loads, reloads = len(self.follower.loads), len(self.follower.reloads)
        self.versions.poll()  # A poll without changes does nothing.
        assert (loads, reloads) == (len(self.follower.loads), len(self.follower.reloads))

    @invariant()
    def only_a_poll_changes_the_state(self) -> None:
        """The versions in memory are those that this state machine expects."""
        assert (self.current, self.previous) == tuple(
            served and (served.predictor.manifest.version, served.predictor.digest)
            for served in self.versions.state[:2]
        )

    def teardown(self) -> None:
        """For a worker that starts now, the newest good version is current."""
        worker = self.follower.follow(lambda: self.folder)
        newest_good = max(self.good(), default=None)
        assert newest_good == number(worker.state.current)
        is_newest = newest_good is not None and newest_good == max(self.published)
        assert is_newest == (worker.state.problem is None)
        self.follower.close()
        self.root.cleanup()


FolderMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFolder = FolderMachine.TestCase
