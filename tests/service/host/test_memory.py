"""Tests of service.host.memory: the limits of the machine and of control groups."""

from pathlib import Path

import pytest

from service.host.memory import available_memory, default_memory_bytes
from service.settings import ServiceSettings


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {}, 8 << 30),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "2000\n", "a/memory.max": "max\n"}, 2000),
        ("0::/../../other\n", {"memory.max": "3000\n"}, 3000),
        ("0::/\n", {"memory.max": "9223372036854771712\n"}, 8 << 30),
        ("5:cpu:/a\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "4000\n"}, 4000),
        ("5:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "4000\n"}, 8 << 30),
        ("nonsense\n", {"memory.max": "1000\n"}, 8 << 30),
    ],
)
def test_lowest_limit(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    """The lowest limit of a group or its ancestors counts; "max" and huge numbers are none."""
    proc, mount = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:       {8 << 20} kB\nMemFree: 1 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text)
    assert expected == available_memory(proc, mount)


@pytest.mark.parametrize(
    ("megabytes", "workers", "expected"),
    [(256, 2, 64), (512, 2, 128), (512, 1, 256), (4096, 2, 1024), (1 << 20, 4, 1024), (64, 64, 1)],
)
def test_default_budget(megabytes: int, workers: int, expected: int) -> None:
    """The requests of all workers share half of the memory, and those of each at most 1 GiB."""
    assert expected << 20 == default_memory_bytes(workers, megabytes << 20)


def test_the_default_budget_is_a_valid_setting() -> None:
    """Even on a tiny machine the default is accepted as a value of memory_bytes."""
    ServiceSettings(memory_bytes=default_memory_bytes(1024, 1 << 20))
