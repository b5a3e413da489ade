"""Estimates of the memory that one request needs, and the split of a worker's budget.

The constants are upper bounds of measured peaks (bench/load/memory.py): bodies of the shortest
numbers, "0,", need the most memory in relation to their size.
"""

from dataclasses import dataclass

from service.runtime.budget import ByteBudget

BODY_COPIES = 2
"""Number of copies of a body that exist while it is received."""
VALUE_BYTES = 64
"""Bytes per number in a body of text, which is parsed into Python objects or arrays."""
ROW_BYTES = 512
"""Bytes per row for the objects of its reply."""
OUTPUT_BYTES = 64
"""Bytes per output of a row: three float32 arrays or Python objects, and two decimals as text."""
TEXT_VALUE_BYTES = 2
"""Minimum size in bytes of a number and its separator."""
UNCOUNTED_BYTES = 1 << 20
"""Maximum estimate in bytes of a request that is not counted, as there are few at a time."""
MIN_BODIES = 24
"""Minimum of the default budget, in bodies of the maximum size: enough for one such request."""


@dataclass(frozen=True)
class RequestMemory:
    """An estimate of the memory for parsing, evaluating and answering a body."""

    in_features: int
    out_features: int
    max_rows: int

    @property
    def uncounted_body_bytes(self) -> int:
        """Size of the largest body whose estimate is certainly at most UNCOUNTED_BYTES."""
        row = ROW_BYTES + OUTPUT_BYTES * self.out_features
        value = VALUE_BYTES + row / self.in_features
        return int(UNCOUNTED_BYTES / (BODY_COPIES + value / TEXT_VALUE_BYTES))

    def estimate(self, body_bytes: int) -> int:
        """Return the bytes that a body of this size needs at most, in addition to itself."""
        values = min(body_bytes // TEXT_VALUE_BYTES, self.max_rows * self.in_features)
        rows = values // self.in_features + 1
        return values * VALUE_BYTES + rows * (ROW_BYTES + OUTPUT_BYTES * self.out_features)


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
