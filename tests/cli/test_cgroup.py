"""Tests of cli.cgroup: the groups of both versions, with their ancestors."""

from pathlib import Path

import pytest

from cli.cgroup import limiting_groups

HYBRID = """12:cpuset:/
5:cpu,cpuacct:/docker/ab12
1:name=systemd:/docker/ab12
nonsense
0::/../system.slice/a.service

3:memory
"""
"""Contents of /proc/self/cgroup with groups of both versions; group 0 is outside the namespace."""
VERSION_2 = [(2, "system.slice/a.service"), (2, "system.slice"), (2, "")]


@pytest.mark.parametrize(
    ("controller", "text", "expected"),
    [
        ("cpu", HYBRID, [(1, "cpu/docker/ab12"), (1, "cpu/docker"), (1, "cpu"), *VERSION_2]),
        ("memory", HYBRID, VERSION_2),
        ("memory", "0::/\n", [(2, "")]),
        ("memory", "nonsense\n\n4:memory\n", []),
        ("memory", None, []),
    ],
)
def test_limiting_groups(
    controller: str, text: str | None, expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    """Malformed lines, groups of other controllers and a missing file are skipped."""
    proc_cgroup, mount = tmp_path / "cgroup", tmp_path / "mount"
    if text is not None:
        proc_cgroup.write_text(text)
    groups = list(limiting_groups(controller, proc_cgroup, mount))
    assert [(version, mount / path) for version, path in expected] == groups
