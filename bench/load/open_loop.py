"""Open-loop load: requests leave at random times that do not depend on the responses."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import REPOSITORY
from bench.cores import pinning
from bench.load.open_loop_process import Job

GRACE_SECONDS = 5
"""Time to wait for responses after the last request was due."""


@dataclass(frozen=True)
class Responses:
    """Result of one load; the arrays have one element per request."""

    due: NDArray[np.float64]
    """Time at which the request was due, in seconds from the start."""
    kind: NDArray[np.int64]
    """Index into the sequence of requests."""
    status: NDArray[np.int16]
    """HTTP status, or UNSENT, BROKEN or UNANSWERED of `open_loop_process`."""
    latency: NDArray[np.float64]
    """Seconds from the time at which the request was due to its response, if there is one."""
    lag_seconds: float
    """99th percentile of the delay with which the generators themselves send a request."""


class OpenLoop:
    """Generator processes, one per core, that share a load; a context manager that ends them."""

    def __init__(self, cores: Sequence[int], folder: Path) -> None:
        """Start the processes, which exchange requests and results through files in a folder."""
        self.folder = folder
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.load.open_loop_process"],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=pinning({core}),
            )
            for core in cores
        ]

    def start(
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
        """Start a load; `responses` waits for its end.

        Args:
            port: TCP port on 127.0.0.1.
            requests: complete requests, sent in turn.
            rate: requests that fall due per second, at random times.
            seconds: duration.
            start: time of the start on the clock time.monotonic().
            connections: maximum number of open connections over all processes.
            seed: seed of the random times.
        """
        files = [self.folder / f"request-{number}" for number in range(len(requests))]
        for file, request in zip(files, requests, strict=True):
            file.write_bytes(request)
        count = len(self.processes)
        for number, process in enumerate(self.processes):
            job = Job(
                port=port,
                requests=[str(file) for file in files],
                rate=rate / count,
                seconds=seconds,
                connections=connections // count,
                start=start,
                grace_seconds=GRACE_SECONDS,
                seed=seed * count + number,
                result=str(self._result(number)),
            )
            assert process.stdin
            print(json.dumps(asdict(job)), file=process.stdin, flush=True)

    def responses(self) -> Responses:
        """Wait for the end of the load; return its result."""
        lag_seconds, parts = 0.0, []
        for number, process in enumerate(self.processes):
            assert process.stdout
            lag_seconds = max(lag_seconds, json.loads(process.stdout.readline())["lag_s"])
            with np.load(self._result(number)) as file:
                parts.append(dict(file))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Responses(**arrays, lag_seconds=lag_seconds)

    def _result(self, number: int) -> Path:
        return self.folder / f"responses-{number}.npz"

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.communicate()
