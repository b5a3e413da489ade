"""Assignment of CPU cores to the processes of a benchmark. Linux only."""

import functools
import os
from collections.abc import Callable, Collection


def choose_cores(text: str, role_count: int) -> list[int]:
    """Return one core per role.

    Args:
        text: comma-separated core numbers, such as `2,0,1`; empty for the first usable ones.
        role_count: number of roles; the server is the first, and the roles without a core of their
            own share the last core.

    Raises:
        SystemExit: another role would share the server's core, or a core is not usable.
    """
    usable = sorted(os.sched_getaffinity(0))
    cores = [int(core) for core in text.split(",")] if text else usable[:role_count]
    cores += cores[-1:] * (role_count - len(cores))
    if cores[0] in cores[1:] or not set(cores) <= set(usable):
        raise SystemExit(
            f"expected at least two cores of {usable}, the first for the server alone, "
            f"found {cores}"
        )
    return cores


def pinning(cores: Collection[int]) -> Callable[[], None]:
    """Return a `preexec_fn` that restricts a child process to the given cores."""
    return functools.partial(os.sched_setaffinity, 0, cores)
