"""The number of CPU cores that this process may use, by affinity and by cgroup quotas."""

import math
import os
import sys
from pathlib import Path

from cli.cgroup import limiting_groups, read_text

QUOTA_FILES = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}
"""Files that hold the CPU quota of a control group, by version."""


def available_cores() -> int:
    """Return the number of cores that this process may keep busy, at least one.

    A quota is rounded down to leave a margin: the kernel suspends threads that exhaust it until the
    next period, and both services and fits have threads that are not counted here.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cgroup_quota())))


def cgroup_quota(
    proc_cgroup: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the number of cores that control groups allow this process; infinity if unlimited."""
    limits = [math.inf]
    for version, folder in limiting_groups("cpu", proc_cgroup, mount):
        limits.append(parse_quota(" ".join(read_text(folder / n) for n in QUOTA_FILES[version])))
    return min(limits)


def parse_quota(text: str) -> float:
    """Convert a quota and its period, in microseconds, to cores: "150000 100000" is 1.5.

    A quota of -1 or "max", and any other text, is infinity.
    """
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
