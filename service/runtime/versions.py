"""The versions of an artifact that are in memory, and the replacement of one by another.

The newest version that is undamaged and passes its self-test answers. A bad version is therefore
skipped, at startup and afterwards, and deleting the newest version goes back to the one before. The
current version stays in memory when its folder is damaged, or is removed without a replacement.
"""

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.errors import Refused
from service.runtime.served_model import ServedModel

NOT_READY_HEADERS = (("Retry-After", "5"),)
"""Headers of a reply that says that the service is not ready, with a delay in seconds."""
PRELOAD_PROBLEM = (
    "the application was loaded before the fork (gunicorn --preload), and ONNX Runtime sessions do "
    "not survive a fork; start without preload"
)
Snapshot = tuple[Path, tuple[tuple[str, int, int, int], ...]]
"""A version folder, and the name, inode, modification time and size of its files."""
log = logging.getLogger(__name__)


class VersionState(NamedTuple):
    """The versions in memory, replaced as a whole so that no reader sees half of a swap."""

    current: ServedModel | None = None
    """Version that answers by default."""
    previous: ServedModel | None = None
    """Version that answered before, still available by its number."""
    problem: str | None = None
    """Why the newest version on disk does not answer, or why none does."""


class Versions:
    """Follows `artifacts/<name>`, or waits for `artifacts/<name>/<version>` and keeps it.

    Attributes:
        state: the versions in memory.
    """

    def __init__(
        self,
        find_path: Callable[[], Path],
        load: Callable[[Path], ServedModel],
        *,
        poll_seconds: float,
        on_reload: Callable[[ServedModel | None], object] = lambda served: None,
    ) -> None:
        """Load the newest good version, and start a thread that polls for another.

        Args:
            find_path: returns the folder to follow, or raises ArtifactError while there is none;
                called until it returns.
            load: reads, checks and warms up a version folder; raises ArtifactError if it is bad.
            poll_seconds: time between two polls in seconds.
            on_reload: called with a version that begins to answer, and with None for a new problem.
        """
        self._find_path, self._load, self._on_reload = find_path, load, on_reload
        self._path: Path | None = None
        self._current: Snapshot | None = None
        self._rejected: dict[Snapshot, str] = {}
        self._poll_lock, self._closed = threading.Lock(), threading.Event()
        self.state = VersionState()
        _instances.add(self)
        self.poll()
        # One thread loads all further versions, which delays no request.
        self._thread = threading.Thread(
            target=self._poll_repeatedly, args=(poll_seconds,), name="versions", daemon=True
        )
        self._thread.start()

    @property
    def current(self) -> ServedModel:
        """The version that answers by default; raises Refused (503) if none is loaded."""
        return self.find()

    @property
    def problem(self) -> str | None:
        """Why the newest version on disk does not answer, or why none does."""
        return self.state.problem

    @property
    def numbers(self) -> list[int]:
        """Numbers of the versions in memory, ascending."""
        current, previous, _ = self.state
        return sorted({s.predictor.manifest.version for s in (current, previous) if s})

    def find(self, version: str | None = None) -> ServedModel:
        """Return the version in memory that a request names, by default the current one.

        Raises:
            Refused: 503, no version is loaded; 404, this version is not in memory.
        """
        current, previous, problem = self.state
        if current is None:
            detail = f"not ready: {problem}"
            raise Refused(503, detail, reason="not_ready", headers=NOT_READY_HEADERS)
        if version is None or version == str(current.predictor.manifest.version):
            return current
        if previous is not None and version == str(previous.predictor.manifest.version):
            return previous
        known = " or ".join(map(str, self.numbers))
        raise Refused(404, f"expected version {known}, found {version[:40]!r}", reason="not_found")

    def poll(self) -> None:
        """Read the folder once, and swap if another version should answer."""
        with self._poll_lock:
            current, previous, old_problem = self.state
            candidate, problem = self._newest_good()
            if candidate and current and candidate.predictor.digest == current.predictor.digest:
                candidate = None  # The same bytes were written again.
            if candidate:
                previous, current = current, candidate
            self.state = VersionState(current, previous, problem)
            if candidate:
                predictor = candidate.predictor
                log.info("ready: %s, digest %s", predictor.path, predictor.digest)
                self._on_reload(candidate)
            if problem and problem != old_problem:
                number = current and current.predictor.manifest.version
                status = f"version {number} goes on answering" if current else "not ready"
                log.error("%s: %s", status, problem)
                self._on_reload(None)

    def close(self) -> None:
        """Stop polling; the versions in memory still answer."""
        self._closed.set()
        self._thread.join()

    def _newest_good(self) -> tuple[ServedModel | None, str | None]:
        """Return a version to swap in, if any, and the problem of the newest version, if any."""
        rejected, self._rejected = self._rejected, {}
        problem = None
        try:
            self._path = self._path or self._find_path()
            for path in storage.candidate_versions(self._path):
                snapshot = path, _file_states(path)
                if snapshot == self._current:
                    return None, problem
                outcome = rejected.get(snapshot) or self._try(snapshot)
                if isinstance(outcome, ServedModel):
                    self._current = snapshot
                    return outcome, problem
                if snapshot in rejected:
                    self._rejected[snapshot] = outcome
                problem = problem or outcome
                if self._current and path == self._current[0]:
                    break  # It was damaged after it was loaded, so it stays in memory.
        except (ArtifactError, OSError) as error:
            problem = _one_line(error)
        return None, problem

    def _try(self, snapshot: Snapshot) -> ServedModel | str:
        """Load a version; return it, or why it cannot answer."""
        path = snapshot[0]
        try:
            served = self._load(path)
            self._check_identity(path, served.predictor.manifest)
        except (OSError, MemoryError) as error:
            # The cause is the machine and not the files, so the next poll tries again.
            return _one_line(error, path)
        except Exception as error:
            if not isinstance(error, ArtifactError):
                log.exception("%s: loading it failed", path)
            # It is loaded again when one of its files changes.
            self._rejected[snapshot] = _one_line(error, path)
            return self._rejected[snapshot]
        return served

    def _check_identity(self, path: Path, loaded: manifest.Manifest) -> None:
        """Raise ArtifactError if the manifest contradicts the folder or names another model."""
        file, current = manifest.MANIFEST, self.state.current
        if path != self._path and path.name != str(loaded.version):
            raise ArtifactError(f"{file}: expected version {path.name}, found {loaded.version}")
        if current and loaded.name != (name := current.predictor.manifest.name):
            raise ArtifactError(f"{file}: expected the model {name}, found {loaded.name}")

    def _poll_repeatedly(self, poll_seconds: float) -> None:
        # A path that is itself a version folder is no longer polled once it is loaded.
        while not (self._current and self._current[0] == self._path):
            if self._closed.wait(poll_seconds):
                return
            try:
                self.poll()
            except Exception:  # Nobody would notice that the thread has ended.
                log.exception("polling for a new version failed; the next poll tries again")


def _file_states(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return the name, inode, modification time and size of every file, which change with it."""
    with os.scandir(folder) as entries:
        files = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
    return tuple((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in files)


def _one_line(error: Exception, path: Path | None = None) -> str:
    """Return the message of an error in one line that names the path."""
    text = str(error) if isinstance(error, ArtifactError | OSError) else repr(error)
    text = " ".join(text.split())  # Messages of ONNX Runtime have several lines.
    return text if path is None or str(path) in text else f"{path}: {text}"


_instances: "weakref.WeakSet[Versions]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for versions in _instances:
        versions.state = VersionState(problem=PRELOAD_PROBLEM)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_after_fork)
