"""The schema that a server has promised to its clients, in memory that all workers share.

Each worker loads and compares versions itself. The memory outlives the workers: without it, a
worker that replaces a dead one would accept a version that all other workers have refused.
"""

import mmap

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
        self._memory = mmap.mmap(-1, _MEMORY_BYTES)

    def require(self, manifest: Manifest, *, allow_change: bool = False) -> None:
        """Record the first manifest; raise ArtifactError for one with another name or schema.

        With `allow_change`, the schema may differ, but not the name, which is part of paths.
        """
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

    def _first(self) -> Manifest | None:
        length = int.from_bytes(self._memory[:_LENGTH_BYTES], "little")
        content = self._memory[_LENGTH_BYTES : _LENGTH_BYTES + length]
        return Manifest.from_json(content) if length else None

    def _record(self, content: bytes) -> None:
        # Workers that start at the same time may both write, and then usually the same bytes.
        self._memory[_LENGTH_BYTES : _LENGTH_BYTES + len(content)] = content
        self._memory[:_LENGTH_BYTES] = len(content).to_bytes(_LENGTH_BYTES, "little")
