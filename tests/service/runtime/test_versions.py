"""service.versions: what answers, while versions come, go, and are no good."""

import dataclasses
import gc
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
from tests.serving import DEADLINE_SECONDS, ROOT, free_port, serving
from tests.stored import RETRAINED_FLOWERS, StoredArtifact

ROWS = np.array([[1, 2, 3, 2001], [-1, 0.5, 2, 1999]], np.float32)
NEVER = 86400.0
"""Between two looks: a test looks by itself."""


def load(path: Path) -> ServedModel:
    """Load as the service does, without a batcher."""
    predictor = Predictor(path)
    return ServedModel(predictor, predictor.predict, 1000)


def put(template: Path, parent: Path, version: int, stated: int | None = None) -> Path:
    """Publish a copy of an artifact as a version, by one rename; its manifest states the version too."""
    files = {name: (template / name).read_bytes() for name in storage.FILES}
    named = dataclasses.replace(
        Manifest.from_json(files[manifest.MANIFEST]), version=stated or version
    )
    files[manifest.MANIFEST] = named.to_json()
    files[manifest.SUMS] = storage.sha256_sums(files)
    draft = parent / ".tmp-1"
    draft.mkdir(parents=True)
    for name, content in files.items():
        (draft / name).write_bytes(content)
    return draft.rename(parent / str(version))


def damage(path: Path) -> None:
    """Flip a bit of the model."""
    content = bytearray((path / manifest.MODEL).read_bytes())
    content[-1] ^= 1
    (path / manifest.MODEL).write_bytes(content)


def number(served: ServedModel | None) -> int | None:
    """Return the version of what is served."""
    return None if served is None else served.predictor.manifest.version


def standing(versions: Versions) -> tuple[int | None, int | None, str | None]:
    """Return the current version, the previous one, and the problem."""
    current, previous, problem = versions.state
    return number(current), number(previous), problem


@pytest.fixture
def other() -> StoredArtifact:
    """The classifier of the same name, trained on other rows."""
    return RETRAINED_FLOWERS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where versions are published, before the first."""
    return tmp_path / "flowers"


class Following(Versions):
    """Versions that count what they load and report."""

    def __init__(self, choose: Path | Callable[[], Path], poll_seconds: float = NEVER) -> None:
        self.loads: list[str] = []
        self.reloads: list[bool] = []

        def counted(path: Path) -> ServedModel:
            self.loads.append(path.name)
            return load(path)

        chosen = (lambda: choose) if isinstance(choose, Path) else choose
        super().__init__(chosen, counted, poll_seconds=poll_seconds, on_reload=self.count)

    def count(self, served: ServedModel | None) -> None:
        """Note whether a version has begun to answer."""
        self.reloads.append(served is not None)


@pytest.fixture
def follow() -> Iterator[Callable[..., Following]]:
    """Return a function that makes Versions, which are closed at the end."""
    made: list[Following] = []

    def following(*arguments: Any) -> Following:
        made.append(Following(*arguments))
        return made[-1]

    yield following
    for versions in made:
        versions.close()


Follow = Callable[..., Following]


def test_not_ready_until_something_is_published(
    flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """503 with the reason and Retry-After, for any version; then a look makes it ready."""
    versions = follow(folder)
    reason = f"{folder}: no such folder; expected artifacts/<name> or artifacts/<name>/<version>"
    assert reason == versions.problem
    for version in (None, "1"):
        with pytest.raises(Refused) as refused:
            versions.find(version)
        error = refused.value
        assert f"not ready: {reason}" == str(error)
        assert (503, "not_ready", (("Retry-After", "5"),)) == (
            error.status,
            error.reason,
            error.headers,
        )
    put(flowers.artifact, folder, 1)
    versions.look()
    assert (1, None, None) == standing(versions)


def test_path_may_be_found_later_and_then_stays(
    flowers: StoredArtifact, tmp_path: Path, follow: Follow
) -> None:
    """Without a choice the artifact published last is served; another name, published later, is not followed."""
    versions = follow(lambda: storage.last_published(tmp_path))
    assert versions.problem is not None
    assert "nothing is published here" in versions.problem
    put(flowers.artifact, tmp_path / "b", 1)
    versions.look()
    put(flowers.artifact, tmp_path / "a", 2)
    versions.look()
    assert tmp_path / "b" / "1" == versions.current.predictor.path


def test_swap(
    flowers: StoredArtifact,
    other: StoredArtifact,
    folder: Path,
    follow: Follow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The newest by number answers, the one before is still reached, and the one before that is freed at once."""
    caplog.set_level(logging.INFO)
    put(flowers.artifact, folder, 9)
    versions = follow(folder)
    put(other.artifact, folder, 10)
    first = weakref.ref(versions.current.predictor)
    versions.look()
    assert (10, 9, None) == standing(versions)
    assert [9, 10] == versions.numbers
    assert (10, 10, 9) == tuple(number(versions.find(version)) for version in (None, "10", "9"))
    answers = [versions.find(version).run(ROWS)["logits"].tobytes() for version in ("9", "10")]
    assert [
        Predictor(made.artifact).predict(ROWS)["logits"].tobytes() for made in (flowers, other)
    ] == answers
    assert answers[0] != answers[1]
    put(flowers.artifact, folder, 11)
    versions.look()
    assert first() is None
    assert (["9", "10", "11"], [True, True, True]) == (versions.loads, versions.reloads)
    assert [f"ready: {folder / name}, digest" for name in versions.loads] == [
        message.rsplit(" ", 1)[0] for message in caplog.messages
    ]


def test_nothing_new_is_not_loaded_again(
    flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """Looks that find the same files load nothing; the same bytes, copied again, swap nothing."""
    path = put(flowers.artifact, folder, 1)
    versions = follow(folder)
    served = versions.current
    for _ in range(3):
        versions.look()
    assert ["1"] == versions.loads
    (path / manifest.CARD).write_bytes((path / manifest.CARD).read_bytes())
    versions.look()
    assert (["1", "1"], [True]) == (versions.loads, versions.reloads)
    assert (served, None, None) == versions.state


@pytest.mark.parametrize("version", [None, "2", "0", "01", "1 ", "x" * 10_000])
def test_unknown_version(
    version: str | None, flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """404 names what is served, and shows of what was asked no more than a line; no version means the current one."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    if version is None:
        assert versions.current is versions.find(version)
        return
    with pytest.raises(Refused) as refused:
        versions.find(version)
    assert (404, "not_found") == (refused.value.status, refused.value.reason)
    assert f"expected version 1, found {version[:40]!r}" == str(refused.value)


def test_unknown_version_beside_two(flowers: StoredArtifact, folder: Path, follow: Follow) -> None:
    """404 names both that answer."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    put(flowers.artifact, folder, 2)
    versions.look()
    with pytest.raises(Refused, match=r"^expected version 1 or 2, found '3'$"):
        versions.find("3")


def wrong_golden(path: Path) -> None:
    """Ask for answers that no network gives, with hashes that hold."""
    golden = json.loads((path / manifest.GOLDEN).read_bytes())
    golden["outputs"]["logits"]["reference"][0][0] += 1.0
    (path / manifest.GOLDEN).write_text(json.dumps(golden))
    files = {name: (path / name).read_bytes() for name in storage.FILES}
    (path / manifest.SUMS).write_bytes(storage.sha256_sums(files))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damage, "model.onnx: expected SHA-256"),
        (wrong_golden, "golden.json: row 0: expected logits"),
    ],
)
def test_bad_version(
    spoil: Callable[[Path], None],
    reason: str,
    flowers: StoredArtifact,
    other: StoredArtifact,
    folder: Path,
    follow: Follow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It never answers, is said once and tried once; a change of its files, or a newer version, is looked at."""
    caplog.set_level(logging.ERROR)
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    spoil(put(other.artifact, folder, 2))
    for _ in range(3):
        versions.look()
    assert (1, None) == standing(versions)[:2]
    assert (["1", "2"], [True, False]) == (versions.loads, versions.reloads)
    assert versions.problem is not None
    assert versions.problem.startswith(f"{folder / '2'}: {reason}")
    assert [f"version 1 goes on answering: {versions.problem}"] == caplog.messages

    shutil.rmtree(folder / "2")
    put(other.artifact, folder, 2)
    versions.look()
    assert (2, 1, None) == standing(versions)
    damage(put(flowers.artifact, folder, 3))
    versions.look()
    put(flowers.artifact, folder, 4)
    versions.look()
    assert (4, 2, None) == standing(versions)


def test_bad_version_that_is_removed(flowers: StoredArtifact, folder: Path, follow: Follow) -> None:
    """What is no more there is no more a problem."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    damage(put(flowers.artifact, folder, 2))
    versions.look()
    shutil.rmtree(folder / "2")
    versions.look()
    assert (1, None, None) == standing(versions)


def test_bad_first_version(
    flowers: StoredArtifact, folder: Path, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    """Alive and not ready; a later good one makes it ready."""
    caplog.set_level(logging.ERROR)
    damage(put(flowers.artifact, folder, 1))
    versions = follow(folder)
    assert versions.problem is not None
    assert (None, [False], [f"not ready: {versions.problem}"]) == (
        versions.state.current,
        versions.reloads,
        caplog.messages,
    )
    put(flowers.artifact, folder, 2)
    versions.look()
    assert (2, None, None) == standing(versions)


def test_start_beside_a_bad_version(flowers: StoredArtifact, folder: Path, follow: Follow) -> None:
    """A worker that starts during an incident answers as those that went through it, and says what they say."""
    put(flowers.artifact, folder, 1)
    old = follow(folder)
    damage(put(flowers.artifact, folder, 2))
    old.look()
    new = follow(folder)
    assert (1, old.problem) == (number(new.current), new.problem)
    assert new.problem is not None


def test_manifest_that_states_another_version(
    flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """Two networks under one version could not be told apart: the folder and the manifest agree, or it is refused."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    put(flowers.artifact, folder, 2, stated=1)
    versions.look()
    assert (1, None, f"{folder / '2'}: manifest.json: expected version 2, found 1") == standing(
        versions
    )


def test_copied_file_by_file(
    flowers: StoredArtifact, other: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """A slow copy, its hashes first, in any order and half a file at a time: refused until it is whole, then served."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    whole = put(other.artifact, folder / "elsewhere", 2)
    (folder / "2").mkdir()
    for name in (manifest.SUMS, *sorted(storage.FILES, reverse=True)):
        content = (whole / name).read_bytes()
        for part in (content[: len(content) // 2], content):
            (folder / "2" / name).write_bytes(part)
            complete = (
                len(list((folder / "2").iterdir())) == len(storage.FILES) + 1 and part is content
            )
            versions.look()
            assert (2 if complete else 1) == number(versions.current)
            # Half of SHA256SUMS cannot be told from a version whose other files are still missing.
            assert complete == (versions.problem is None)


def test_rollback_by_deletion(
    flowers: StoredArtifact, other: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """Who deletes the newest goes back to the one before; it is read again, for its files may have changed."""
    put(flowers.artifact, folder, 1)
    put(other.artifact, folder, 2)
    versions = follow(folder)
    shutil.rmtree(folder / "2")
    versions.look()
    assert (1, 2, None) == standing(versions)
    versions.look()
    assert ["2", "1"] == versions.loads


@pytest.mark.parametrize("what", ["1", ""])
def test_removed_with_nothing_in_its_place(
    what: str, flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """What answers goes on from memory, and the problem is said: a restart would find nothing."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    shutil.rmtree(folder / what)
    versions.look()
    assert (1, None) == standing(versions)[:2]
    assert versions.problem is not None
    assert str(folder) in versions.problem
    assert np.array_equal(
        Predictor(flowers.artifact).predict(ROWS)["logits"], versions.current.run(ROWS)["logits"]
    )


def test_damaged_after_it_was_read(flowers: StoredArtifact, folder: Path, follow: Follow) -> None:
    """What is in memory goes on, whatever lies below it; the damage is said."""
    put(flowers.artifact, folder, 1)
    put(flowers.artifact, folder, 2)
    versions = follow(folder)
    damage(folder / "2")
    for _ in range(2):
        versions.look()
        assert (2, None) == standing(versions)[:2]
        assert versions.problem is not None
    assert ["2", "2"] == versions.loads
    damage(folder / "2")  # the same bit again: it is whole
    versions.look()
    assert (2, None, None) == standing(versions)


def test_started_anew(
    flowers: StoredArtifact, other: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """After `rm -r artifacts/flowers` and another export there is another version 1, and it answers."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    shutil.rmtree(folder)
    put(other.artifact, folder, 1)
    versions.look()
    assert Predictor(other.artifact).digest == versions.find("1").predictor.digest
    assert versions.state.previous is not None


def test_pinned(flowers: StoredArtifact, folder: Path, follow: Follow) -> None:
    """A version given by its path is waited for, and then held: nobody looks any more."""
    versions = follow(folder / "1", 0.01)
    assert versions.problem is not None
    put(flowers.artifact, folder, 1)
    wait(lambda: versions.state.current is not None)
    versions._thread.join(DEADLINE_SECONDS)
    assert not versions._thread.is_alive()
    assert (1, None, None) == standing(versions)


def wait(holds: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_thread_outlives_what_it_meets(
    flowers: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """A path that is no folder, and a callback that fails, are logged; the next version is found, until close()."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder, 0.001)

    def fail(served: ServedModel | None) -> None:
        raise RuntimeError("a defect")

    versions._on_reload = fail
    put(flowers.artifact, folder, 2)
    wait(lambda: number(versions.current) == 2)
    versions._on_reload = print
    hidden = folder.rename(folder.parent / "hidden")
    folder.touch()
    wait(lambda: versions.problem is not None)
    folder.unlink()
    hidden.rename(folder)
    wait(lambda: versions.problem is None)
    put(flowers.artifact, folder, 3)
    wait(lambda: number(versions.current) == 3)
    versions.close()
    assert not versions._thread.is_alive()


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_fault_of_the_machine_is_tried_again(
    error: Exception, flowers: StoredArtifact, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files did not change, and the machine may have: every look tries, and the reason is said once."""
    put(flowers.artifact, folder, 1)
    outcomes: list[Exception | None] = [error, error, None]

    def unlucky(path: Path) -> ServedModel:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return load(path)

    versions = Versions(lambda: folder, unlucky, poll_seconds=NEVER)
    versions.look()
    assert 1 == len(caplog.messages)
    versions.look()
    assert (1, None, None) == standing(versions)
    versions.close()


def test_defect_while_loading_is_logged_with_its_place(
    flowers: StoredArtifact, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw refuses the version, once, with a traceback; the process lives."""
    put(flowers.artifact, folder, 1)

    def broken(path: Path) -> ServedModel:
        raise RuntimeError("a defect\nin two lines")

    versions = Versions(lambda: folder, broken, poll_seconds=NEVER)
    versions.look()
    assert f"{folder / '1'}: RuntimeError('a defect\\nin two lines')" == versions.problem
    assert [True, False] == [record.exc_info is not None for record in caplog.records]
    versions.close()


def test_readers_during_swaps(flowers: StoredArtifact, other: StoredArtifact, folder: Path) -> None:
    """Every answer is, bit for bit, of the network whose version it states; two stay, and one more while it loads."""
    networks = [flowers, other]
    expected = [Predictor(made.artifact).predict(ROWS)["logits"].tobytes() for made in networks]
    alive: weakref.WeakSet[Predictor] = weakref.WeakSet()
    most_alive = 0

    def counting(path: Path) -> ServedModel:
        nonlocal most_alive
        served = load(path)
        alive.add(served.predictor)
        most_alive = max(most_alive, len(alive))
        return served

    put(flowers.artifact, folder, 2)
    versions = Versions(lambda: folder, counting, poll_seconds=NEVER)
    seen: list[set[int]] = [set() for _ in range(3)]
    wrong: list[object] = []
    done = threading.Event()

    def read(place: int) -> None:
        while not done.is_set():
            current, previous, problem = versions.state
            for served in (current, previous):
                if served is not None:
                    stated = served.predictor.manifest.version
                    seen[place].add(stated)
                    if served.run(ROWS)["logits"].tobytes() != expected[stated % 2]:
                        wrong.append(stated)
            if previous is not None and (number(current), problem) != (
                (number(previous) or 0) + 1,
                None,
            ):
                wrong.append((number(current), number(previous), problem))
            del current, previous, served

    readers = [threading.Thread(target=read, args=(place,)) for place in range(3)]
    for reader in readers:
        reader.start()
    for version in range(3, 23):
        put(networks[version % 2].artifact, folder, version)
        versions.look()
        wait(lambda version=version: all(version in place for place in seen))  # type: ignore[misc]
    done.set()
    for reader in readers:
        reader.join()
    assert [] == wrong
    gc.collect()
    assert 2 == len(alive)
    assert most_alive <= 3 + len(readers)  # a reader may still hold one that was dropped
    versions.close()


class Folder(RuleBasedStateMachine):
    """A folder to which anything happens between two looks, beside a model of what should answer."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.parent = Path(self.root.name) / "x"
        self.parent.mkdir()
        self.published: dict[int, str] = {}  # content by version; bad ones begin with "bad"
        self.memory: tuple[int, str] | None = None
        self.before: tuple[int, str] | None = None
        self.serial = 0
        self.versions = Versions(lambda: self.parent, self.load, poll_seconds=NEVER)

    @staticmethod
    def load(path: Path) -> ServedModel:
        """Stand in for a network: what matters here is which one it is."""
        content = (path / manifest.SUMS).read_text()
        if content.startswith("bad"):
            raise ArtifactError(content)
        stated = SimpleNamespace(name="x", version=int(path.name))
        stand_in: Any = SimpleNamespace(path=path, digest=content, manifest=stated)
        return ServedModel(stand_in, lambda rows: {}, 1)

    @rule(version=st.integers(1, 4), good=st.booleans())
    def publish(self, version: int, good: bool) -> None:
        """Write a version that was not there, or over one that was."""
        self.serial += 1
        self.published[version] = f"{'good' if good else 'bad'}\n{self.serial}"
        (self.parent / str(version)).mkdir(exist_ok=True)
        (self.parent / str(version) / manifest.SUMS).write_text(self.published[version])

    @rule(version=st.integers(1, 4))
    def delete(self, version: int) -> None:
        """Remove a version, if it is there."""
        if self.published.pop(version, None):
            shutil.rmtree(self.parent / str(version))

    @rule()
    def look(self) -> None:
        """The model: the newest good one, but what answers is never left for an older one while its folder is there."""
        newest = max(
            (version for version, content in self.published.items() if content.startswith("good")),
            default=0,
        )
        if self.memory and self.memory[0] in self.published:
            newest = max(newest, self.memory[0])
        answer = (newest, self.published[newest]) if newest else None
        if answer and answer[1].startswith("good") and answer != self.memory:
            self.memory, self.before = answer, self.memory
        self.versions.look()
        newest_there = max(self.published, default=0)
        settled = (
            bool(self.memory) and (newest_there, self.published.get(newest_there)) == self.memory
        )
        assert settled == (self.versions.problem is None)
        if self.versions.problem and newest_there:  # of the newest, in one line
            reason = " ".join(self.published[newest_there].split())
            assert f"{self.parent / str(newest_there)}: {reason}" == self.versions.problem

    @invariant()
    def answers_as_the_model(self) -> None:
        """Nothing changes but by a look."""
        for expected, served in zip(
            (self.memory, self.before), self.versions.state[:2], strict=True
        ):
            assert expected == (
                served and (served.predictor.manifest.version, served.predictor.digest)
            )

    def teardown(self) -> None:
        """Stop the thread."""
        self.versions.close()
        self.root.cleanup()


Folder.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFolder = Folder.TestCase


FORK = """
import os, sys, time
from pathlib import Path
from service.wire import Refused
from tests.test_versions import Versions, load
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


def test_fork(flowers: StoredArtifact) -> None:
    """What was loaded before a fork refuses in the child, with the reason; what is loaded after it answers."""
    command = [sys.executable, "-c", FORK, str(flowers.artifact.parent)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert (f"503 not ready: {PRELOAD_PROBLEM}\nTrue\n3 True\n", 0) == (
        ended.stdout,
        ended.returncode,
    ), ended.stderr


@pytest.mark.e2e
def test_preload(flowers: StoredArtifact) -> None:
    """Under gunicorn --preload every worker is alive, says why it is not ready, and predicts nothing."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "service.web.app:create_app()",
        "--preload",
        "-b",
        f"127.0.0.1:{port}",
    ]
    environment = {"TWOLAYERNET_ARTIFACT": str(flowers.artifact.parent)}
    with serving(command, port, environment, status=503) as server:
        assert 200 == server.request("GET", "/healthz")[0]
        for status, document in (
            server.request("GET", "/readyz"),
            server.request("POST", "/predict", b"{}"),
        ):
            assert (503, f"not ready: {PRELOAD_PROBLEM}") == (status, document["detail"])


def test_another_model_never_takes_over(
    flowers: StoredArtifact, houses: StoredArtifact, folder: Path, follow: Follow
) -> None:
    """A folder holds one model: a version that states another name is refused, and the old one stays."""
    put(flowers.artifact, folder, 1)
    versions = follow(folder)
    put(houses.artifact, folder, 2)
    versions.look()
    assert 1 == number(versions.current)
    assert (
        f"{folder / '2'}: manifest.json: expected the model flowers, found houses"
        == versions.problem
    )
