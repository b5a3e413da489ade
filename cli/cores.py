"""The number of CPU cores that this process may use, by affinity and by cgroup quotas."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
    """Return the number of cores that control groups allow this process; infinity if unlimited.

    See cgroups(7). Ancestors of the process's group may have limits too. In a container,
    proc_cgroup often holds the group's path on the host, but the group is mounted at the root.
    """
    limits = [math.inf]
    for version, group in cpu_groups(_read(proc_cgroup)):
        # Without "..", a path from outside the cgroup namespace stays below the mount.
        own = PurePosixPath(*(part for part in group.split("/") if part not in ("", "..")))
        for path in (own, *own.parents):
            folder = mount / path if version == 2 else mount / "cpu" / path
            text = " ".join(_read(folder / name) for name in QUOTA_FILES[version])
            limits.append(parse_quota(text))
    return min(limits)


def cpu_groups(text: str) -> Iterator[tuple[int, str]]:
    """Yield the version (1 or 2) and the path of each CPU group in text from /proc/self/cgroup."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, group = rest.partition(":")
        if separator and not controllers:
            yield 2, group
        elif "cpu" in controllers.split(","):
            yield 1, group


def parse_quota(text: str) -> float:
    """Convert a quota and its period, in microseconds, to cores: "150000 100000" is 1.5.

    A quota of -1 or "max", and any other text, is infinity.
    """
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
