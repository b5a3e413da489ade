"""Tests of cli.cores: CPU affinity and the CPU quotas of control groups."""

import math
import os
from pathlib import Path

import pytest

from cli import cores

HYBRID = "5:cpu,cpuacct:/docker/ab12\n0::/../system.slice/a.service\n"
"""Contents of /proc/self/cgroup with groups of both versions."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150000 100000\n", 1.5),
        ("400000 50000\n", 8.0),
        ("250000\n 100000\n", 2.5),
        ("max 100000\n", math.inf),
        ("-1\n 100000\n", math.inf),
        ("100000 0", math.inf),
        ("150000\n", math.inf),
        ("what ever\n", math.inf),
        ("", math.inf),
    ],
)
def test_quotas(text: str, expected: float) -> None:
    """A quota is in microseconds per period, from one file or two; `max` and -1 mean no limit."""
    assert expected == cores.parse_quota(text)


SERVICE, SLICE = "system.slice/a.service/cpu.max", "system.slice/cpu.max"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "200000 100000"}, 2.0),
        ({SERVICE: "max 100000", SLICE: "300000 100000"}, 3.0),
        ({f"cpu/docker/ab12/{QUOTA}": "150000", f"cpu/docker/ab12/{PERIOD}": "100000"}, 1.5),
        ({f"cpu/{QUOTA}": "70000", f"cpu/{PERIOD}": "100000", "cpu.max": "100000 100000"}, 0.7),
    ],
    ids=["no limit", "mount's root", "ancestor", "version 1", "both versions"],
)
def test_lowest_quota_counts(files: dict[str, str], expected: float, tmp_path: Path) -> None:
    """The lowest quota of the group and its ancestors counts, in both versions."""
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
    """A quota is rounded down to at least one core, and limited by the affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert expected == cores.available_cores()
