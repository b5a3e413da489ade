"""Assignment of CPU cores to the processes of a benchmark. Linux only."""

import functools
import os
from collections.abc import Callable, Collection


def assign_cores(role_count: int) -> list[int]:
    """Return one usable core per role, the server's first; other roles may share the last core.

    A core is usable if the process may run on it; restrict them with `taskset`.

    Raises:
        SystemExit: fewer than two cores are usable, and the server needs one of its own.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit(f"expected at least two usable CPU cores, found {usable}")
    cores = usable[:role_count]
    return cores + cores[-1:] * (role_count - len(cores))


def pinning(cores: Collection[int]) -> Callable[[], None]:
    """Return a `preexec_fn` that restricts a child process to the given cores."""
    return functools.partial(os.sched_setaffinity, 0, cores)
