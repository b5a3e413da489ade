"""How many cores this process may use: by its affinity, and by the quotas of the control groups that it is in."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

OWN_GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return the cores that this process may keep busy, at least one.

    A quota is rounded down: threads that use it up before its period has ended stand still until the next one, and
    a worker takes more than one core at times, for what reads and writes its sockets is a thread of its own.
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, cgroup_quota())))


def cgroup_quota(own_groups: Path = OWN_GROUPS, mount: Path = MOUNT) -> float:
    """Return the cores that the control groups leave to this process; infinity without a limit (cgroups(7)).

    Every group above one's own may have a limit too. In a container the path is often the host's, of which only the
    mount's own folder can be seen: that is the container's.
    """
    limits = [math.inf]
    for version, group in groups(_read(own_groups)):
        for path in lineage(group):
            if version == 2:
                limits.append(quota_v2(_read(mount / path / "cpu.max")))
            else:
                folder = mount / "cpu" / path
                limits.append(
                    quota_v1(
                        _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                    )
                )
    return min(limits)


def groups(text: str) -> Iterator[tuple[int, str]]:
    """Find in a /proc/self/cgroup what may limit a process' time: control groups' version, 1 or 2, and a path."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, group = rest.partition(":")
        if separator and not controllers:
            yield 2, group
        elif "cpu" in controllers.split(","):
            yield 1, group


def lineage(group: str) -> Iterator[PurePosixPath]:
    """Yield a group's path and those of the groups above it, relative to the mount."""
    path = PurePosixPath(*(part for part in group.split("/") if part not in ("", "..")))
    yield path
    yield from path.parents


def quota_v2(cpu_max: str) -> float:
    """Read "150000 100000", microseconds in each period of so many, as cores; "max 100000" is infinity."""
    used, _, period = cpu_max.partition(" ")
    return quota_v1(used, period)


def quota_v1(quota_us: str, period_us: str) -> float:
    """Read microseconds in each period of so many as cores; -1, or what cannot be read, is infinity."""
    try:
        used, period = int(quota_us), int(period_us)
    except ValueError:
        return math.inf
    return used / period if used > 0 and period > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
