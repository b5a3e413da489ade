"""The memory that this process may use: the machine's, or less if a control group limits it."""

import contextlib
import ctypes
import re
from pathlib import Path

from cli.cgroup import limiting_groups, read_text

LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}
"""File that holds the memory limit of a control group, by version."""
REQUEST_SHARE = 0.5
"""Share of the memory for requests; the rest is for the programs, the networks and the kernel."""
MAX_DEFAULT_BYTES = 1 << 30
"""Maximum default of a worker's budget: a worker answers only a few large requests at a time."""
MIN_DEFAULT_BYTES = 1 << 20
"""Minimum default of a worker's budget, which is also the minimum of the setting."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameter numbers of mallopt(3), from <malloc.h>."""
LARGE_BLOCK_BYTES = 1 << 20
"""Size in bytes from which a freed block of memory goes back to the system."""


def default_memory_bytes(workers: int, available_bytes: int) -> int:
    """Return the number of bytes that the requests of each worker may use by default."""
    share = int(available_bytes * REQUEST_SHARE) // workers
    return max(MIN_DEFAULT_BYTES, min(share, MAX_DEFAULT_BYTES))


def available_memory(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of the machine's memory, or of the lowest limit of a control group.

    On systems without /proc, assume 4 GiB.
    """
    total = re.search(r"^MemTotal: +(\d+) kB$", read_text(proc / "meminfo"), re.MULTILINE)
    limits = [int(total[1]) * 1024 if total else 4 << 30]
    for version, folder in limiting_groups("memory", proc / "self" / "cgroup", mount):
        text = read_text(folder / LIMIT_FILES[version]).strip()
        if text.isdecimal() and int(text) > 0:  # "max" is no limit
            limits.append(int(text))
    return min(limits)


def return_large_blocks() -> None:
    """Have the C library give large blocks of memory back to the system when they are freed.

    By default glibc raises this size up to 32 MiB after the first large block, and each thread
    keeps its freed blocks. Thirty requests of 8 MB each then leave 1.4 GB behind instead of 0.4.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BLOCK_BYTES)
