"""The control groups that limit this process (cgroups(7))."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def limiting_groups(
    controller: str,
    proc_cgroup: Path = Path("/proc/self/cgroup"),
    mount: Path = Path("/sys/fs/cgroup"),
) -> Iterator[tuple[int, Path]]:
    """Yield the version (1 or 2) and the folder of each group that may limit this process.

    Ancestors of the process's group may have limits too. In a container, proc_cgroup often holds
    the group's path on the host, but the group is mounted at the root. A folder may be missing.

    Args:
        controller: name of a controller, such as "cpu".
        proc_cgroup: file that lists the groups of this process; malformed lines are skipped.
        mount: folder under which the groups are mounted.
    """
    for line in read_text(proc_cgroup).splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, group = rest.partition(":")
        if not separator or (controllers and controller not in controllers.split(",")):
            continue
        version, root = (1, mount / controller) if controllers else (2, mount)
        # Without "..", a path from outside the cgroup namespace stays below the mount.
        own = PurePosixPath(*(part for part in group.split("/") if part not in ("", "..")))
        for path in (own, *own.parents):
            yield version, root / path


def read_text(path: Path) -> str:
    """Return the text of a file, or an empty string if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
