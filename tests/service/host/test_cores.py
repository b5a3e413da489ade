"""Affinity and control groups' quotas, as the kernel writes them."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.host import cores
from tests.serving import ROOT

HYBRID = """12:cpuset:/
5:cpu,cpuacct:/docker/ab12
1:name=systemd:/docker/ab12
0::/system.slice/a.service
"""
"""/proc/self/cgroup of a system with both versions."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", math.inf),
        ("150000 100000\n", 1.5),
        ("400000 50000\n", 8.0),
        ("", math.inf),
        ("150000\n", math.inf),
        ("what ever\n", math.inf),
    ],
)
def test_quota_of_version_2(text: str, expected: float) -> None:
    """cpu.max is microseconds per period, or max."""
    assert expected == cores.quota_v2(text)


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("-1\n", "100000\n", math.inf), ("250000\n", "100000\n", 2.5), ("100000", "0", math.inf)],
)
def test_quota_of_version_1(quota: str, period: str, expected: float) -> None:
    """cpu.cfs_quota_us is -1 without a limit."""
    assert expected == cores.quota_v1(quota, period)


def test_cpu_groups() -> None:
    """Version 2 has one group; of version 1 only the group with the cpu controller counts."""
    assert [(1, "/docker/ab12"), (2, "/system.slice/a.service")] == list(cores.cpu_groups(HYBRID))
    assert [] == list(cores.cpu_groups("nonsense\n\n"))


@pytest.mark.parametrize(
    ("group", "expected"),
    [("/a/b", ["a/b", "a", "."]), ("/", ["."]), ("/../../x", ["x", "."])],
)
def test_lineage(group: str, expected: list[str]) -> None:
    """A group and its ancestors; a path from outside the namespace stays below the mount."""
    assert expected == [str(path) for path in cores.lineage(group)]


SERVICE, SLICE = "system.slice/a.service/cpu.max", "system.slice/cpu.max"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "200000 100000"}, 2.0),
        ({SERVICE: "max 100000", SLICE: "300000 100000"}, 3.0),
        ({f"cpu/docker/ab12/{QUOTA}": "150000", f"cpu/docker/ab12/{PERIOD}": "100000"}, 1.5),
        (
            {f"cpu/{QUOTA}": "70000", f"cpu/{PERIOD}": "100000", "cpu.max": "100000 100000"},
            0.7,
        ),
    ],
    ids=["no limit", "mount's root", "ancestor", "version 1", "both versions"],
)
def test_lowest_quota_counts(files: dict[str, str], expected: float, tmp_path: Path) -> None:
    """It may be the own group's or an ancestor's, of either version."""
    proc_cgroup = tmp_path / "cgroup"
    proc_cgroup.write_text(HYBRID)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert expected == cores.cgroup_quota(proc_cgroup, tmp_path / "mount")


@pytest.mark.parametrize(
    ("quota", "expected"), [(math.inf, 4), (2.5, 2), (1.0, 1), (0.5, 1), (16.0, 4)]
)
def test_available_cores(quota: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota is rounded down, but never to zero, and never above the affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert expected == cores.available_cores()


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux'")
def test_affinity() -> None:
    """A process bound to one core has one."""
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{bind}; from service.host.cores import available_cores; print(available_cores())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "1\n" == result.stdout
