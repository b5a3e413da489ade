"""The schema of the version that a server served first, in memory that all workers share.

Each worker loads and compares versions itself. The memory outlives the workers: without it, a
worker that replaces a dead one would accept a version that all other workers have refused.
"""

import contextlib
import mmap
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator

from service.artifact import storage
from service.artifact.manifest import MANIFEST, ArtifactError, Manifest
from service.artifact.schema import schema_differences

_LENGTH_BYTES = 8
_MEMORY_BYTES = 2 * storage.MAX_FILE_BYTES[MANIFEST]
"""Size of the memory, of which only the pages in use exist. A manifest that was written without
spaces grows when to_json() indents it, but to less than twice its size."""


class ServedSchema:
    """The manifest of the version that a server served first; create it before the fork."""

    def __init__(self) -> None:
        self._descriptor = _open_memory()
        weakref.finalize(self, os.close, self._descriptor)
        os.ftruncate(self._descriptor, _MEMORY_BYTES)
        self._memory = mmap.mmap(self._descriptor, _MEMORY_BYTES)
        self._thread_lock = threading.Lock()

    def require(self, manifest: Manifest, *, allow_change: bool = False) -> None:
        """Record the first manifest; raise ArtifactError for one with another name or schema.

        With `allow_change`, the schema may differ, but not the name, which is part of paths.
        """
        with self._lock():
            first = self._first()
            if first is None:
                self._record(manifest.to_json())
                return
        if manifest.name != first.name:
            raise ArtifactError(
                f"{MANIFEST}: expected the model {first.name}, found {manifest.name}"
            )
        difference = next(schema_differences(first, manifest), None)
        if difference and not allow_change:
            origin = f"the schema of version {first.version}, which this server serves"
            remedy = "to change it, restart the server, or start it with --allow-schema-change"
            raise ArtifactError(f"{MANIFEST}: {difference}, unlike {origin}; {remedy}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of this memory, which the kernel releases when the process dies."""
        with self._thread_lock:  # locks of files are per process
            if sys.platform == "win32":  # `serve` does not run there
                yield
            else:
                import fcntl

                fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
                try:
                    yield
                finally:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _first(self) -> Manifest | None:
        length = int.from_bytes(self._memory[:_LENGTH_BYTES], "little")
        content = self._memory[_LENGTH_BYTES : _LENGTH_BYTES + length]
        return Manifest.from_json(content) if length else None

    def _record(self, content: bytes) -> None:
        # The length is last, so a record that a dying worker has not completed does not count.
        self._memory[_LENGTH_BYTES : _LENGTH_BYTES + len(content)] = content
        self._memory[:_LENGTH_BYTES] = len(content).to_bytes(_LENGTH_BYTES, "little")


def _open_memory() -> int:
    """Return the descriptor of an empty file in memory, or of a temporary file as a substitute."""
    if hasattr(os, "memfd_create"):  # works without a folder that can be written to
        return os.memfd_create("served-schema")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
