"""The versions of an artifact that answer in this process, and how one takes the place of another.

Which version should answer: the newest that is whole and passes its self-test. So a bad one is passed over, at a start
as at a reload, and whoever deletes the newest goes back to the one before it. What answers stays in memory: it goes on
when its folder is removed with nothing to take its place, or is damaged.
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
"""Seconds; said by whoever is not ready."""
PRELOAD_PROBLEM = (
    "the application was loaded before the fork (gunicorn --preload): ONNX Runtime's sessions do not survive that; "
    "start without preload"
)
Source = tuple[Path, tuple[tuple[str, int, int, int], ...]]
"""A version's folder; and name, inode, time of change and size of every file in it, which change when its bytes do."""
log = logging.getLogger(__name__)


class VersionState(NamedTuple):
    """What answers; it is replaced as a whole, so nobody sees half of a swap."""

    current: ServedModel | None = None
    previous: ServedModel | None = None
    """What answered before; it is still reached by its version."""
    problem: str | None = None
    """Why the newest version does not answer, or why none does."""


class Versions:
    """Follows `artifacts/<name>`, or holds `artifacts/<name>/<version>` once it is there.

    Attributes:
        state: what answers.
    """

    def __init__(
        self,
        choose: Callable[[], Path],
        load: Callable[[Path], ServedModel],
        *,
        poll_seconds: float,
        on_reload: Callable[[ServedModel | None], object] = lambda served: None,
    ) -> None:
        """Load what should answer; where that fails, it is tried again at every look.

        Args:
            choose: returns the path, or raises ArtifactError while there is none; called until it returns.
            load: reads, checks and warms up `artifacts/<name>/<version>`; raises ArtifactError where that is to blame.
            poll_seconds: between two looks.
            on_reload: called with the version that has begun to answer, and with None for a new problem.
        """
        self._choose, self._load, self._on_reload = choose, load, on_reload
        self._path: Path | None = None
        self._answers: Source | None = None
        self._refused: dict[Source, str] = {}
        self._looking, self._closed = threading.Lock(), threading.Event()
        self.state = VersionState()
        _instances.add(self)
        self.look()
        # A session is built by one thread at a time, and never by one that answers.
        self._thread = threading.Thread(
            target=self._poll, args=(poll_seconds,), name="versions", daemon=True
        )
        self._thread.start()

    @property
    def current(self) -> ServedModel:
        """The version that answers.

        Raises:
            Refused: 503, there is none.
        """
        return self.find()

    @property
    def problem(self) -> str | None:
        """Why the newest version does not answer, or why none does."""
        return self.state.problem

    @property
    def numbers(self) -> list[int]:
        """What answers, by its number, ascending."""
        current, previous, _ = self.state
        return sorted(
            {served.predictor.manifest.version for served in (current, previous) if served}
        )

    def find(self, version: str | None = None) -> ServedModel:
        """Return the current version, or the one of the two in memory that a request names.

        Raises:
            Refused: 503, nothing answers; 404, that version does not.
        """
        current, previous, problem = self.state
        if current is None:
            raise Refused(
                503, f"not ready: {problem}", reason="not_ready", headers=NOT_READY_HEADERS
            )
        if version is None or version == str(current.predictor.manifest.version):
            return current
        if previous is not None and version == str(previous.predictor.manifest.version):
            return previous
        known = " or ".join(map(str, self.numbers))
        raise Refused(404, f"expected version {known}, found {version[:40]!r}", reason="not_found")

    def look(self) -> None:
        """Look once at what is published, and swap when another version should answer."""
        with self._looking:
            current, previous, known = self.state
            found, problem = self._newest()
            if found and current and found.predictor.digest == current.predictor.digest:
                found = None  # its files were written again, as they were
            # The swap: one assignment.
            self.state = (
                VersionState(found, current, problem)
                if found
                else VersionState(current, previous, problem)
            )
            answering = found or current
            if found:
                log.info("ready: %s, digest %s", found.predictor.path, found.predictor.digest)
                self._on_reload(found)
            if problem and problem != known:
                version = answering and answering.predictor.manifest.version
                log.error(
                    "%s: %s",
                    f"version {version} goes on answering" if version else "not ready",
                    problem,
                )
                self._on_reload(None)

    def close(self) -> None:
        """Stop looking; what answers goes on."""
        self._closed.set()
        self._thread.join()

    def _newest(self) -> tuple[ServedModel | None, str | None]:
        """Return what should answer instead, if anything, and why nothing newer does."""
        refused, self._refused = self._refused, {}
        problem = None
        try:
            self._path = self._path or self._choose()
            for path in storage.candidate_versions(self._path):
                source = path, _signature(path)
                if source == self._answers:
                    return None, problem
                if source in refused:
                    outcome: ServedModel | str = refused[source]
                    self._refused[source] = refused[source]
                else:
                    outcome = self._try(source)
                if isinstance(outcome, ServedModel):
                    self._answers = source
                    return outcome, problem
                problem = problem or outcome
                if self._answers and path == self._answers[0]:  # damaged since it was read
                    break
        except (ArtifactError, OSError) as error:
            problem = _one_line(error)
        return None, problem

    def _try(self, source: Source) -> ServedModel | str:
        """Load a version; return it, or why it cannot answer."""
        path = source[0]
        try:
            served = self._load(path)
            stated = served.predictor.manifest.version
            if path != self._path and path.name != str(stated):
                raise ArtifactError(
                    f"{manifest.MANIFEST}: expected version {path.name}, found {stated}"
                )
            name, current = served.predictor.manifest.name, self.state.current
            if current and name != current.predictor.manifest.name:
                expected = current.predictor.manifest.name
                raise ArtifactError(
                    f"{manifest.MANIFEST}: expected the model {expected}, found {name}"
                )
        except (
            OSError,
            MemoryError,
        ) as error:  # the machine is to blame: tried again at the next look
            return _one_line(error, path)
        except Exception as error:
            if not isinstance(error, ArtifactError):
                log.exception("%s: loading it failed", path)
            self._refused[source] = _one_line(error, path)  # tried again when a file of it changes
            return self._refused[source]
        return served

    def _poll(self, seconds: float) -> None:
        while not self._pinned and not self._closed.wait(seconds):
            try:
                self.look()
            except Exception:  # of a callback: a thread that ended here would never be missed
                log.exception("looking for a new version failed, and goes on")

    @property
    def _pinned(self) -> bool:
        return self._answers is not None and self._answers[0] == self._path


def _signature(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    return tuple(
        sorted((name, status.st_ino, status.st_mtime_ns, status.st_size) for name, status in found)
    )


def _one_line(error: Exception, path: Path | None = None) -> str:
    """Say in one line what went wrong, and where."""
    text = str(error) if isinstance(error, ArtifactError | OSError) else repr(error)
    text = " ".join(text.split())  # ONNX Runtime's have several lines
    return text if path is None or str(path) in text else f"{path}: {text}"


_instances: "weakref.WeakSet[Versions]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for versions in _instances:
        versions.state = VersionState(problem=PRELOAD_PROBLEM)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_after_fork)
