"""The versions of an artifact in memory, and the thread that replaces the current version.

The current version is the newest version that is undamaged, passes its self-test and has the schema
of the version that the server served first (served_schema.py). Other versions are skipped, and
deleting the newest version makes the version before it current. The current version stays in memory
if its folder is damaged, or is removed without a replacement.
"""

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.artifact import storage
from service.artifact.manifest import ArtifactError, Manifest
from service.errors import Refused
from service.runtime.served_model import ServedModel

NOT_READY_HEADERS = (("Retry-After", "5"),)
"""Headers of a "not ready" reply: the seconds after which the client should retry."""
PRELOAD_PROBLEM = (
    "the application was loaded before the fork (gunicorn --preload), and ONNX Runtime sessions do "
    "not survive a fork; start without preload"
)
Snapshot = tuple[Path, tuple[tuple[str, int, int, int], ...]]
"""A version folder, and the name, inode, modification time and size of each of its files."""
log = logging.getLogger(__name__)


class VersionState(NamedTuple):
    """The versions in memory, replaced as a whole: readers need no lock."""

    current: ServedModel | None = None
    """Version for requests that name no version."""
    previous: ServedModel | None = None
    """Version that was current before, still available by its number."""
    problem: str | None = None
    """Why the newest version on disk is not current, or why there is no current version."""


class Versions:
    """Follows the versions in `artifacts/<name>`, or keeps one `artifacts/<name>/<version>`.

    Attributes:
        state: the versions in memory.
    """

    def __init__(
        self,
        find_path: Callable[[], Path],
        load: Callable[[Path], ServedModel],
        *,
        check_schema: Callable[[Manifest], object],
        poll_seconds: float,
        on_reload: Callable[[ServedModel | None], object] = lambda served: None,
    ) -> None:
        """Load the newest good version, and start a thread that polls for newer ones.

        Args:
            find_path: returns the folder to follow, or raises ArtifactError if no folder exists;
                each poll calls it until it returns a folder.
            load: reads, checks and warms up a version folder; raises ArtifactError if it is bad.
            check_schema: called with the manifest of a loaded version before it becomes current;
                raises ArtifactError if clients of the former version would misread it.
            poll_seconds: time between polls in seconds.
            on_reload: called with each new current version, and with None for each new problem.
        """
        self._find_path, self._load, self._on_reload = find_path, load, on_reload
        self._check_schema = check_schema
        self._path: Path | None = None
        self._current: Snapshot | None = None
        self._rejected: dict[Snapshot, str] = {}
        self._poll_lock, self._closed = threading.Lock(), threading.Event()
        self.state = VersionState()
        _instances.add(self)
        self.poll()
        # A separate thread loads new versions because loading must not delay requests.
        self._thread = threading.Thread(
            target=self._poll_repeatedly, args=(poll_seconds,), name="versions", daemon=True
        )
        self._thread.start()

    @property
    def current(self) -> ServedModel:
        """The current version; raises Refused (503) if no version is loaded."""
        return self.find()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the versions in memory, ascending."""
        current, previous, _ = self.state
        return sorted({s.predictor.manifest.version for s in (current, previous) if s})

    def find(self, version: str | None = None) -> ServedModel:
        """Return the version with this number, by default the current version.

        Raises:
            Refused: 503, no version is loaded; 404, the version is not in memory.
        """
        current, previous, problem = self.state
        if current is None:
            detail = f"not ready: {problem}"
            raise Refused(503, detail, reason="not_ready", headers=NOT_READY_HEADERS)
        if version is None or version == str(current.predictor.manifest.version):
            return current
        if previous is not None and version == str(previous.predictor.manifest.version):
            return previous
        numbers = " or ".join(map(str, self.numbers))
        raise Refused(
            404, f"expected version {numbers}, found {version[:40]!r}", reason="not_found"
        )

    def poll(self) -> None:
        """Read the folder once, and replace the current version if another should be current."""
        with self._poll_lock:
            current, previous, old_problem = self.state
            candidate, problem = self._newest_good()
            if candidate and current and candidate.predictor.digest == current.predictor.digest:
                candidate = None  # The same bytes have been written again.
            if candidate:
                previous, current = current, candidate
            self.state = VersionState(current, previous, problem)
            if candidate:
                predictor = candidate.predictor
                log.info("ready: %s, digest %s", predictor.path, predictor.digest)
                self._on_reload(candidate)
            if problem and problem != old_problem:
                number = current and current.predictor.manifest.version
                status = f"version {number} stays in use" if current else "not ready"
                log.error("%s: %s", status, problem)
                self._on_reload(None)

    def close(self) -> None:
        """Stop polling; the versions in memory remain usable."""
        self._closed.set()
        self._thread.join()

    def _newest_good(self) -> tuple[ServedModel | None, str | None]:
        """Return the new current version or None, and the newest version's problem or None."""
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
                    break  # The current version was damaged after loading; it stays in memory.
        except (ArtifactError, OSError) as error:
            problem = _one_line(error)
        return None, problem

    def _try(self, snapshot: Snapshot) -> ServedModel | str:
        """Load a version; return it, or the reason why it cannot be used."""
        path = snapshot[0]
        try:
            served = self._load(path)
            self._check_schema(served.predictor.manifest)
        except (OSError, MemoryError) as error:
            # The machine causes these errors, not the files, so the next poll tries again.
            return _one_line(error, path)
        except Exception as error:
            if not isinstance(error, ArtifactError):
                log.exception("%s: loading it failed", path)
            # The version is not loaded again until one of its files changes.
            self._rejected[snapshot] = _one_line(error, path)
            return self._rejected[snapshot]
        return served

    def _poll_repeatedly(self, poll_seconds: float) -> None:
        # A path that is itself a version folder needs no polling after it has been loaded.
        while not (self._current and self._current[0] == self._path):
            if self._closed.wait(poll_seconds):
                return
            try:
                self.poll()
            except Exception:  # Without this, an error would end the polling unnoticed.
                log.exception("polling for a new version failed; the next poll tries again")


def _file_states(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return the name, inode, modification time and size of each file, to detect changes."""
    with os.scandir(folder) as entries:
        files = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
    return tuple((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in files)


def _one_line(error: Exception, path: Path | None = None) -> str:
    """Return the message of an error as one line that contains the path."""
    text = str(error) if isinstance(error, ArtifactError | OSError) else repr(error)
    text = " ".join(text.split())  # Messages of ONNX Runtime have several lines.
    return text if path is None or str(path) in text else f"{path}: {text}"


_instances: "weakref.WeakSet[Versions]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for versions in _instances:
        versions.state = VersionState(problem=PRELOAD_PROBLEM)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_after_fork)
