"""service.runtime.versions: which version answers while versions come, go, or are bad."""

import dataclasses
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError, Manifest
from service.errors import Refused
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.versions import PRELOAD_PROBLEM, Versions
from tests.serving import DEADLINE_SECONDS, ROOT, free_port, serving, until
from tests.stored import FLOWERS, HOUSES, RETRAINED_FLOWERS, StoredArtifact

NEVER_SECONDS = 86400.0
"""Poll interval with which only the test itself polls."""


def load(path: Path) -> ServedModel:
    """Load a version as the service does, without a batcher."""
    predictor = Predictor(path)
    return ServedModel(predictor, predictor.predict, 1000)


def publish(stored: StoredArtifact, path: Path, number: int | None = None) -> Path:
    """Publish an artifact at `artifacts/<name>/<version>` by one rename, as version `number`."""
    files = {name: (stored.artifact / name).read_bytes() for name in storage.FILES}
    description = Manifest.from_json(files[manifest.MANIFEST])
    description = dataclasses.replace(description, version=number or int(path.name))
    files[manifest.MANIFEST] = description.to_json()
    files[manifest.SUMS] = storage.sha256_sums(files)
    draft = path.parent / ".tmp-1"
    draft.mkdir(parents=True)
    for name, content in files.items():
        (draft / name).write_bytes(content)
    return draft.rename(path)


def number(served: ServedModel | None) -> int | None:
    """Return the number of a version."""
    return None if served is None else served.predictor.manifest.version


def summary(versions: Versions) -> tuple[int | None, int | None, str | None]:
    """Return the current version, the previous one, and the problem."""
    current, previous, problem = versions.state
    return number(current), number(previous), problem


@dataclasses.dataclass
class Follower:
    """Creates Versions that record what they load and report, and closes them at the end."""

    loads: list[str] = dataclasses.field(default_factory=list)
    reloads: list[int | None] = dataclasses.field(default_factory=list)
    errors: list[Exception] = dataclasses.field(default_factory=list)
    """Exceptions of the next loads."""
    versions: list[Versions] = dataclasses.field(default_factory=list)

    def follow(
        self, path: Path | Callable[[], Path], poll_seconds: float = NEVER_SECONDS
    ) -> Versions:
        """Follow a path, or one that is found later."""
        find = (lambda: path) if isinstance(path, Path) else path
        self.versions.append(
            Versions(find, self.load, poll_seconds=poll_seconds, on_reload=self.reload)
        )
        return self.versions[-1]

    def load(self, path: Path) -> ServedModel:
        """Record the load of a version, or raise the next exception."""
        self.loads.append(path.name)
        if self.errors:
            raise self.errors.pop(0)
        return load(path)

    def reload(self, served: ServedModel | None) -> None:
        """Record a version that begins to answer, or None for a problem."""
        self.reloads.append(number(served))


@pytest.fixture
def follower() -> Iterator[Follower]:
    """Provide a Follower and close its Versions."""
    follower = Follower()
    yield follower
    for versions in follower.versions:
        versions.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return artifacts/flowers, before the first version."""
    return tmp_path / "flowers"


def test_service_is_not_ready_until_a_version_is_published(
    folder: Path, follower: Follower
) -> None:
    """Every request is refused with 503, the problem and Retry-After; then a poll finds a version."""
    versions = follower.follow(folder)
    problem = f"{folder}: no such folder; expected artifacts/<name> or artifacts/<name>/<version>"
    assert (None, None, problem) == summary(versions)
    for version in (None, "1"):
        with pytest.raises(Refused, match="^not ready: ") as error:
            versions.find(version)
        refusal = error.value
        assert (f"not ready: {problem}", 503, "not_ready") == (
            str(refusal),
            refusal.status,
            refusal.reason,
        )
        assert (("Retry-After", "5"),) == refusal.headers
    publish(FLOWERS, folder / "1")
    versions.poll()
    assert (1, None, None) == summary(versions)
    assert [None, 1] == follower.reloads


def test_first_path_found_is_kept(tmp_path: Path, follower: Follower) -> None:
    """Another name that is published later is not followed."""
    versions = follower.follow(lambda: storage.last_published(tmp_path))
    assert "nothing is published here" in (versions.problem or "")
    publish(FLOWERS, tmp_path / "b" / "1")
    versions.poll()
    publish(FLOWERS, tmp_path / "a" / "2")
    versions.poll()
    assert tmp_path / "b" / "1" == versions.current.predictor.path


def test_swap(folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture) -> None:
    """The largest number answers, the previous one is kept by number, and older ones are freed."""
    caplog.set_level(logging.INFO)
    publish(FLOWERS, folder / "9")
    versions = follower.follow(folder)
    oldest = weakref.ref(versions.current.predictor)
    publish(RETRAINED_FLOWERS, folder / "10")
    versions.poll()
    assert (10, 9, None) == summary(versions)
    assert [9, 10] == versions.numbers
    assert [10, 10, 9] == [number(versions.find(version)) for version in (None, "10", "9")]
    publish(FLOWERS, folder / "11")
    versions.poll()
    assert oldest() is None
    assert [9, 10, 11] == follower.reloads
    assert [f"ready: {folder / name}, digest" for name in ("9", "10", "11")] == [
        message.rsplit(" ", 1)[0] for message in caplog.messages
    ]


def test_unchanged_files_are_not_loaded_again(folder: Path, follower: Follower) -> None:
    """The same bytes, written again, are loaded but change nothing."""
    path = publish(FLOWERS, folder / "1")
    versions = follower.follow(folder)
    served = versions.current
    for _ in range(3):
        versions.poll()
    assert ["1"] == follower.loads
    (path / manifest.CARD).write_bytes((path / manifest.CARD).read_bytes())
    versions.poll()
    assert (["1", "1"], [1]) == (follower.loads, follower.reloads)
    assert (served, None, None) == versions.state


@pytest.mark.parametrize("version", ["3", "0", "01", "1 ", "x" * 10_000])
def test_unknown_version_is_refused(version: str, folder: Path, follower: Follower) -> None:
    """404 names the versions in memory, and shows at most 40 characters of the request."""
    publish(FLOWERS, folder / "1")
    versions = follower.follow(folder)
    publish(FLOWERS, folder / "2")
    versions.poll()
    with pytest.raises(Refused, match="^expected version 1 or 2, found ") as error:
        versions.find(version)
    assert (404, "not_found") == (error.value.status, error.value.reason)
    assert f"expected version 1 or 2, found {version[:40]!r}" == str(error.value)


def publish_damaged(path: Path) -> None:
    """Publish a version with a model whose hash does not match."""
    (publish(RETRAINED_FLOWERS, path) / manifest.MODEL).write_bytes(b"")


@pytest.mark.parametrize(
    ("publish_bad", "reason"),
    [
        (publish_damaged, "model.onnx: expected SHA-256 "),
        (lambda path: publish(FLOWERS, path, 1), "manifest.json: expected version 2, found 1"),
        (
            lambda path: publish(HOUSES, path),
            "manifest.json: expected the model flowers, found houses",
        ),
    ],
)
def test_bad_version_is_rejected_once(
    publish_bad: Callable[[Path], object],
    reason: str,
    folder: Path,
    follower: Follower,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It never answers, is loaded and logged once, and is loaded again when its files change."""
    caplog.set_level(logging.ERROR)
    publish(FLOWERS, folder / "1")
    versions = follower.follow(folder)
    publish_bad(folder / "2")
    for _ in range(3):
        versions.poll()
    current, previous, problem = summary(versions)
    assert (1, None) == (current, previous)
    assert (problem or "").startswith(f"{folder / '2'}: {reason}")
    assert (["1", "2"], [1, None]) == (follower.loads, follower.reloads)
    assert [f"version 1 goes on answering: {problem}"] == caplog.messages
    shutil.rmtree(folder / "2")
    publish(RETRAINED_FLOWERS, folder / "2")
    versions.poll()
    assert (2, 1, None) == summary(versions)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_fault_of_the_machine_is_tried_again(
    error: Exception, folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    """The files did not change but the machine may have; the problem is logged once."""
    publish(FLOWERS, folder / "1")
    follower.errors = [error, error]
    versions = follower.follow(folder)
    versions.poll()
    assert [f"not ready: {versions.problem}"] == caplog.messages
    versions.poll()
    assert (1, None, None) == summary(versions)


def test_unexpected_error_rejects_the_version(
    folder: Path, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a traceback, and the problem is one line."""
    publish(FLOWERS, folder / "1")
    follower.errors = [RuntimeError("a defect\nin two lines")]
    versions = follower.follow(folder)
    versions.poll()
    assert f"{folder / '1'}: RuntimeError('a defect\\nin two lines')" == versions.problem
    assert [True, False] == [record.exc_info is not None for record in caplog.records]


@pytest.fixture
def poll_threads() -> Callable[[], int]:
    """Return a function that counts the polling threads that this test started."""
    others = set(threading.enumerate())
    return lambda: sum(t.name == "versions" for t in set(threading.enumerate()) - others)


def test_pinned_version_is_waited_for_and_kept(
    folder: Path, follower: Follower, poll_threads: Callable[[], int]
) -> None:
    """Polling stops once artifacts/<name>/<version> answers."""
    versions = follower.follow(folder / "1", 0.01)
    assert (None, 1) == (versions.state.current, poll_threads())
    publish(FLOWERS, folder / "1")
    until(lambda: 0 == poll_threads())
    assert (1, None, None) == summary(versions)


def test_polling_survives_errors(folder: Path, poll_threads: Callable[[], int]) -> None:
    """A callback that fails, and a path that is no folder, do not stop it; close() does."""
    publish(FLOWERS, folder / "1")
    calls: list[int | None] = []

    def fail(served: ServedModel | None) -> None:
        calls.append(number(served))
        if len(calls) > 1:
            raise RuntimeError("a defect")

    versions = Versions(lambda: folder, load, poll_seconds=0.001, on_reload=fail)
    publish(FLOWERS, folder / "2")
    until(lambda: number(versions.current) == 2)
    hidden = folder.rename(folder.parent / "hidden")
    folder.touch()
    until(lambda: versions.problem is not None)
    folder.unlink()
    hidden.rename(folder)
    publish(FLOWERS, folder / "3")
    until(lambda: (3, 2, None) == summary(versions))
    versions.close()
    assert 0 == poll_threads()
    assert [1, 2, None, 3] == calls


class FolderMachine(RuleBasedStateMachine):
    """Any changes of a folder between polls, compared with a model of what should answer."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name) / "x"
        self.published: dict[int, str] = {}
        """Content by version; that of a bad version begins with "bad"."""
        self.current: tuple[int, str] | None = None
        self.previous: tuple[int, str] | None = None
        self.serial = 0
        self.versions = self.follow()

    def follow(self) -> Versions:
        """Return Versions of the folder, as a worker has them."""
        return Versions(lambda: self.folder, self.load, poll_seconds=NEVER_SECONDS)

    @staticmethod
    def load(path: Path) -> ServedModel:
        """Return a stand-in for a network."""
        content = (path / manifest.SUMS).read_text()
        if content.startswith("bad"):
            raise ArtifactError(content)
        description = SimpleNamespace(name="x", version=int(path.name))
        predictor: Any = SimpleNamespace(path=path, digest=content, manifest=description)
        return ServedModel(predictor, lambda rows: {}, 1)

    def good(self) -> list[int]:
        """Return the numbers of the good versions on disk."""
        return [number for number, text in self.published.items() if text.startswith("good")]

    @rule(version=st.integers(1, 4), good=st.booleans())
    def publish(self, version: int, good: bool) -> None:
        """Write a new version, or overwrite one."""
        self.serial += 1
        self.published[version] = f"{'good' if good else 'bad'}\n{self.serial}"
        (self.folder / str(version)).mkdir(parents=True, exist_ok=True)
        (self.folder / str(version) / manifest.SUMS).write_text(self.published[version])

    @rule(version=st.integers(1, 4))
    def delete(self, version: int) -> None:
        """Remove a version, and the folder with the last one."""
        if self.published.pop(version, None):
            shutil.rmtree(self.folder / str(version) if self.published else self.folder)

    @rule()
    def poll(self) -> None:
        """The newest good version answers, but none older than the current one while that exists."""
        current = self.current[0] if self.current and self.current[0] in self.published else 0
        answer = max((number for number in self.good() if number >= current), default=None)
        if answer and (answer, self.published[answer]) != self.current:
            self.current, self.previous = (answer, self.published[answer]), self.current
        self.versions.poll()
        newest = max(self.published, default=0)
        settled = self.current is not None and self.current == (newest, self.published.get(newest))
        assert settled == (self.versions.problem is None)
        if self.versions.problem and newest:
            reason = " ".join(self.published[newest].split())
            assert f"{self.folder / str(newest)}: {reason}" == self.versions.problem

    @invariant()
    def only_a_poll_changes_the_state(self) -> None:
        """The versions in memory are those of the model."""
        assert (self.current, self.previous) == tuple(
            served and (served.predictor.manifest.version, served.predictor.digest)
            for served in self.versions.state[:2]
        )

    def teardown(self) -> None:
        """A worker that starts now answers with the newest good version."""
        worker = self.follow()
        newest_good = max(self.good(), default=None)
        assert newest_good == number(worker.state.current)
        settled = newest_good is not None and newest_good == max(self.published)
        assert settled == (worker.problem is None)
        worker.close()
        self.versions.close()
        self.root.cleanup()


FolderMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFolder = FolderMachine.TestCase

FORK = """
import os, sys
from pathlib import Path
from service.errors import Refused
from service.runtime.versions import Versions
from tests.service.runtime.test_versions import load
versions = Versions(lambda: Path(sys.argv[1]), load, poll_seconds=0.01)
before = versions.current.predictor.digest
if not os.fork():
    try:
        versions.current
    except Refused as refused:
        print(refused.status, refused, flush=True)
    fresh = Versions(lambda: Path(sys.argv[1]), load, poll_seconds=0.01)
    print(fresh.current.predictor.digest == before, flush=True)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), versions.current.predictor.digest == before)
"""


def test_forked_process_must_load_its_own_version() -> None:
    """A session from before the fork is refused with the reason; a new one answers."""
    command = [sys.executable, "-c", FORK, str(FLOWERS.artifact.parent)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    expected = f"503 not ready: {PRELOAD_PROBLEM}\nTrue\n3 True\n"
    assert (expected, 0) == (ended.stdout, ended.returncode), ended.stderr


@pytest.mark.e2e
def test_gunicorn_preload_is_refused() -> None:
    """Every worker is alive, reports why it is not ready, and predicts nothing."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "service.web.app:create_app()", "--preload"]
    environment = {"TWOLAYERNET_ARTIFACT": str(FLOWERS.artifact.parent)}
    with serving([*command, "-b", f"127.0.0.1:{port}"], port, environment, status=503) as server:
        assert 200 == server.request("GET", "/healthz")[0]
        for method, path in (("GET", "/readyz"), ("POST", "/predict")):
            status, document = server.request(method, path, b"{}" if method == "POST" else None)
            assert (503, f"not ready: {PRELOAD_PROBLEM}") == (status, document["detail"])
