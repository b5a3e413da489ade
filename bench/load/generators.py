"""Load: from wrk in a closed loop, whose callers ask again once they are answered; from open_loop.py in an open one."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from serve_dialects import Question

BENCH = Path(__file__).resolve().parent
GRACE_SECONDS = 5
"""In which an open loop waits for answers, once its last request was due."""


class Load(NamedTuple):
    """What one run of wrk found."""

    requests_per_second: float
    """That had good answers."""
    p50_seconds: float
    p99_seconds: float


class Answers(NamedTuple):
    """What an open loop found; an element per request."""

    due: NDArray[np.float64]
    """Seconds from the start."""
    kind: NDArray[np.int64]
    """Which of the requests it was."""
    status: NDArray[np.int16]
    """Of HTTP, or one of open_loop's words."""
    latency: NDArray[np.float64]
    """Seconds from the moment at which it was due, where there is an answer."""
    late_seconds: float
    """What the generators add to a latency (p99)."""


def require() -> None:
    """Say what to install where wrk is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")


def wrk(
    port: int,
    question: Question,
    file: Path,
    core: int,
    connections: int,
    seconds: int,
    *,
    refusals: bool = False,
) -> Load:
    """Ask one question for some seconds.

    Args:
        port: of 127.0.0.1.
        question: what to ask.
        file: where to put it.
        core: of wrk.
        connections: that ask at a time.
        seconds: whole ones, as wrk has it; twice as many where none saw an answer.
        refusals: whether there may be some.

    Raises:
        SystemExit: an answer was not a good one.
    """
    file.write_bytes(question.raw(port))
    command = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
    ]
    command += ["--timeout", "60s", "--script", str(BENCH / "serve_load.lua")]
    command += [f"http://127.0.0.1:{port}", "--", str(file)]
    hold = functools.partial(os.sched_setaffinity, 0, {core})
    done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=hold)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["broken"] or (found["refused"] and not refusals):
        raise SystemExit(
            f"{question.path} on port {port}: not every answer was a good one: {found}"
        )
    if not found["requests"]:
        return wrk(port, question, file, core, connections, 2 * seconds, refusals=refusals)
    return Load(
        (found["requests"] - found["refused"]) / found["seconds"], found["p50_s"], found["p99_s"]
    )


class OpenLoop:
    """Processes of open_loop.py, one a core, which share a load; use it with `with`."""

    def __init__(self, cores: Sequence[int], folder: Path) -> None:
        """Start them; what they send and find goes through files of the folder."""
        self.folder = folder
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(BENCH / "open_loop.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
            )
            for core in cores
        ]

    def offer(
        self,
        port: int,
        requests: Sequence[bytes],
        *,
        rate: float,
        seconds: float,
        start: float,
        connections: int,
        seed: int,
    ) -> None:
        """Begin a load; answers() waits for its end.

        Args:
            port: of 127.0.0.1.
            requests: complete ones, sent in turn.
            rate: of requests that fall due, per second, at random moments.
            seconds: that it lasts.
            start: of the clock time.monotonic().
            connections: open at a time, in all.
            seed: of the moments.
        """
        files = [self.folder / f"request-{number}" for number in range(len(requests))]
        for file, request in zip(files, requests, strict=True):
            file.write_bytes(request)
        count = len(self.processes)
        for number, process in enumerate(self.processes):
            job: dict[str, Any] = {
                "port": port,
                "requests": [str(file) for file in files],
                "rate": rate / count,
            }
            job |= {
                "seconds": seconds,
                "connections": connections // count,
                "start": start,
                "grace": GRACE_SECONDS,
            }
            job |= {
                "seed": seed * count + number,
                "result": str(self.folder / f"answers-{number}.npz"),
            }
            assert process.stdin
            print(json.dumps(job), file=process.stdin, flush=True)

    def answers(self) -> Answers:
        """Wait for the end of the load; return what became of it."""
        late, parts = 0.0, []
        for number, process in enumerate(self.processes):
            assert process.stdout
            late = max(late, json.loads(process.stdout.readline())["late_s"])
            with np.load(self.folder / f"answers-{number}.npz") as file:
                parts.append(dict(file))
        return Answers(
            **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
            late_seconds=late,
        )

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        for process in self.processes:
            process.communicate()
