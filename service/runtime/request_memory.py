"""Estimates of the memory that one request needs, and the split of a worker's budget.

The constants are upper bounds of measured peaks (bench/load/memory.py): bodies of the shortest
numbers, "0," and one-byte integers, need the most memory in relation to their size.
"""

import logging
from dataclasses import dataclass

from service.runtime.budget import ByteBudget

BODY_COPIES = 2
"""Number of copies of a body that exist while it is received."""
VALUE_BYTES = 64
"""Bytes per number in a body of text, which is parsed into Python objects or arrays."""
BINARY_VALUE_BYTES = 16
"""Bytes per number in a body of little-endian numbers, which is read as a float32 array."""
ROW_BYTES = 512
"""Bytes per row for the objects of its reply."""
OUTPUT_BYTES = 64
"""Bytes per output of a row: three float32 arrays or Python objects, and two decimals as text."""
TEXT_VALUE_BYTES = 2
"""Minimum size in bytes of a number and its separator; a binary number may have one byte."""
UNCOUNTED_BYTES = 1 << 20
"""Estimate in bytes up to which a request is not counted; admission limits the number of them."""
BODIES_PER_REQUEST = 24
"""Budget that one request of the maximum size may need, in bodies of that size."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestMemory:
    """An estimate of the memory for parsing, evaluating and answering a body."""

    in_features: int
    out_features: int
    max_rows: int

    @property
    def uncounted_body_bytes(self) -> int:
        """Size of the largest body whose estimate is certainly at most UNCOUNTED_BYTES."""
        row = (ROW_BYTES + OUTPUT_BYTES * self.out_features) / self.in_features
        values = (VALUE_BYTES + row) / TEXT_VALUE_BYTES + BINARY_VALUE_BYTES + row
        return int(UNCOUNTED_BYTES / (BODY_COPIES + values))

    def estimate(self, text_values: int, binary_values: int = 0) -> int:
        """Return the bytes that a body needs at most, in addition to itself.

        Args:
            text_values: maximum number of values that its text can hold.
            binary_values: maximum number of values that its binary part can hold.
        """
        max_values = self.max_rows * self.in_features
        text_values, binary_values = min(text_values, max_values), min(binary_values, max_values)
        rows = min(text_values + binary_values, max_values) // self.in_features + 1
        values = text_values * VALUE_BYTES + binary_values * BINARY_VALUE_BYTES
        return values + rows * (ROW_BYTES + OUTPUT_BYTES * self.out_features)


@dataclass(frozen=True)
class MemoryBudgets:
    """The memory for concurrent requests of one worker.

    There is one budget per step of a request, and a request that holds bytes of one step waits for
    those of a later one. Within a step, ByteBudget prevents that requests wait for each other.
    """

    bodies: ByteBudget
    answers: ByteBudget
    replies: ByteBudget


def split_memory(memory_bytes: int, deadline_seconds: float) -> MemoryBudgets:
    """Split a worker's memory: an eighth each for bodies and replies, the rest for the answers."""
    eighth = memory_bytes // 8
    return MemoryBudgets(
        ByteBudget(eighth, deadline_seconds, "request bodies"),
        ByteBudget(6 * eighth, deadline_seconds, "parsing and answering"),
        ByteBudget(eighth, deadline_seconds, "replies that clients have not read"),
    )


def log_small_budget(memory_bytes: int, max_body_bytes: int) -> None:
    """Log a warning if one request may need more than a worker's memory; such a request runs alone.

    Configure logging first.
    """
    if memory_bytes < (need := BODIES_PER_REQUEST * max_body_bytes):
        log.warning(
            "a request with a body of %d bytes may use %d bytes of memory, but the requests of a "
            "worker share %d; to keep within it, lower --max-body-bytes, or lower --workers or "
            "raise --memory-bytes",
            max_body_bytes,
            need,
            memory_bytes,
        )
