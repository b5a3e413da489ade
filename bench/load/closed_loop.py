"""Closed-loop load from wrk: each connection waits for a response before its next request."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.cores import pinning
from bench.serve.requests import HttpRequest

SCRIPT = Path(__file__).with_name("wrk.lua")


class Throughput(NamedTuple):
    """Result of one run of wrk."""

    requests_per_second: float
    """Rate of responses with status 2xx or 3xx."""
    p50_seconds: float
    p99_seconds: float


def require_wrk() -> None:
    """Exit with an installation hint if wrk is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")


def run_wrk(
    port: int,
    request: HttpRequest,
    core: int,
    connections: int,
    seconds: int,
    *,
    rejections: bool = False,
) -> Throughput:
    """Run wrk on a core with one request; if no response arrives, run it for twice as long.

    Raises:
        SystemExit: a connection failed, or a status was 4xx or 5xx and rejections are not allowed.
    """
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"]
    command += ["--timeout=60s", f"--script={SCRIPT}", f"http://127.0.0.1:{port}", "--"]
    with tempfile.NamedTemporaryFile() as file:
        file.write(request.encode(port))
        file.flush()
        command += [file.name]
        output = subprocess.check_output(command, text=True, preexec_fn=pinning({core}))
    result = json.loads(output.splitlines()[-1])
    if result["failures"] or (result["error_statuses"] and not rejections):
        raise SystemExit(f"{request.path} on port {port}: some requests failed: {result}")
    if not result["requests"]:
        return run_wrk(port, request, core, connections, 2 * seconds, rejections=rejections)
    good = result["requests"] - result["error_statuses"]
    return Throughput(good / result["seconds"], result["p50_s"], result["p99_s"])
