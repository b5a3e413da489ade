"""service.cores: affinity and control groups' quotas, as the kernel writes them."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.host import cores
from tests.serving import ROOT

HYBRID = "12:cpuset:/\n5:cpu,cpuacct:/docker/ab12\n1:name=systemd:/docker/ab12\n0::/system.slice/a.service\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", math.inf),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("400000 50000\n", 8.0),
        ("", math.inf),
        ("150000\n", math.inf),
        ("what ever\n", math.inf),
    ],
)
def test_quota_of_version_2(text: str, expected: float) -> None:
    """cpu.max is microseconds in a period, or max."""
    assert expected == cores.quota_v2(text)


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("-1\n", "100000\n", math.inf),
        ("250000\n", "100000\n", 2.5),
        ("", "", math.inf),
        ("100000\n", "0\n", math.inf),
    ],
)
def test_quota_of_version_1(quota: str, period: str, expected: float) -> None:
    """cpu.cfs_quota_us is -1 for none."""
    assert expected == cores.quota_v1(quota, period)


def test_groups() -> None:
    """Version 2's one group, and of version 1's the one with the cpu controller, not cpuset's."""
    assert [(1, "/docker/ab12"), (2, "/system.slice/a.service")] == list(cores.groups(HYBRID))
    assert [] == list(cores.groups("nonsense\n\n"))


def test_lineage() -> None:
    """A group and all above it; a path from outside this namespace leads nowhere else."""
    assert ["a/b", "a", "."] == [str(path) for path in cores.lineage("/a/b")]
    assert ["."] == [str(path) for path in cores.lineage("/")]
    assert ["x", "."] == [str(path) for path in cores.lineage("/../../x")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        (
            {"cpu.max": "200000 100000\n"},
            2.0,
        ),  # in a container: its own group is the mount's folder
        (
            {
                "system.slice/a.service/cpu.max": "max 100000\n",
                "system.slice/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        (
            {
                "cpu/docker/ab12/cpu.cfs_quota_us": "150000\n",
                "cpu/docker/ab12/cpu.cfs_period_us": "100000\n",
            },
            1.5,
        ),
        (
            {
                "cpu/cpu.cfs_quota_us": "70000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "cpu.max": "max 100000\n",
            },
            0.7,
        ),
    ],
)
def test_least_of_all_quotas(files: dict[str, str], expected: float, tmp_path: Path) -> None:
    """Own group or one above it, either version."""
    own = tmp_path / "own"
    own.write_text(HYBRID)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert expected == cores.cgroup_quota(own, tmp_path / "mount")


def test_no_control_groups(tmp_path: Path) -> None:
    """Where there are none, nothing limits."""
    assert math.inf == cores.cgroup_quota(tmp_path / "own", tmp_path)


@pytest.mark.parametrize(
    ("quota", "expected"), [(math.inf, 4), (2.5, 2), (1.0, 1), (0.5, 1), (16.0, 4)]
)
def test_a_quota_is_rounded_down(
    quota: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never to nothing, and never above the affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert expected == cores.available_cores()


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux'")
def test_affinity() -> None:
    """A process that is bound to one core has one."""
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{bind}; from service import cores; print(cores.cores())"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "1\n" == found.stdout
