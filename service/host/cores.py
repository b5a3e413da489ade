"""The number of CPU cores that this process may use, by affinity and by cgroup quotas."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_MOUNT = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return the number of cores that this process may keep busy, at least one.

    A quota is rounded down: threads that use it up are suspended until its next period, and a
    worker uses more than one core at times, because a thread of its own reads and writes sockets.
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, cgroup_quota())))


def cgroup_quota(proc_cgroup: Path = PROC_CGROUP, mount: Path = CGROUP_MOUNT) -> float:
    """Return the cores that the control groups allow this process; infinity without a limit.

    See cgroups(7). Every ancestor of the process's group may have a limit too. In a container the
    path is often the host's, of which only the mount's root is visible: the container's own group.
    """
    limits = [math.inf]
    for version, group in cpu_groups(_read(proc_cgroup)):
        for path in lineage(group):
            if version == 2:
                limits.append(quota_v2(_read(mount / path / "cpu.max")))
            else:
                quota, period = (
                    _read(mount / "cpu" / path / f"cpu.cfs_{name}_us")
                    for name in ("quota", "period")
                )
                limits.append(quota_v1(quota, period))
    return min(limits)


def cpu_groups(text: str) -> Iterator[tuple[int, str]]:
    """Yield version (1, 2) and path of each group in /proc/self/cgroup that may limit CPU time."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, group = rest.partition(":")
        if separator and not controllers:
            yield 2, group
        elif "cpu" in controllers.split(","):
            yield 1, group


def lineage(group: str) -> Iterator[PurePosixPath]:
    """Yield the paths of a group and of its ancestors, relative to the mount."""
    path = PurePosixPath(*(part for part in group.split("/") if part not in ("", "..")))
    yield path
    yield from path.parents


def quota_v2(cpu_max: str) -> float:
    """Return cpu.max as cores: "150000 100000" (microseconds per period) is 1.5, "max" infinity."""
    quota, _, period = cpu_max.partition(" ")
    return quota_v1(quota, period)


def quota_v1(quota_us: str, period_us: str) -> float:
    """Return microseconds per period as cores; infinity for -1 and for unreadable text."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
