"""A process that runs measurement jobs one at a time."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

from bench import REPOSITORY
from bench.cores import pinning

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


class Worker:
    """Context manager for a process that reads one job per line of JSON and prints its result."""

    def __init__(self, python: Path | str, module: str, core: int | None = None) -> None:
        """Run a module with an interpreter; if a core is given, pin it there with one thread."""
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        environment |= {} if core is None else ONE_THREAD
        self.process = subprocess.Popen(
            [str(python), "-m", module],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=None if core is None else pinning({core}),
        )

    def run(self, job: str, **arguments: object) -> dict[str, Any]:
        """Run a job to its end; return its result."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps({"job": job, **arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{job} ended with exit code {self.process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
