"""The service under more load than it can serve: goodput, latency, rejections, memory, recovery.

    python -m bench.load.overload [wide | digits ...] [--rounds 3] [--seconds 10]

wide      1000 -> 4096 -> 10, 64 rows per request as float32 bytes
digits    64 -> 100 -> 10, one row per request in JSON

One worker on one core, with default settings. Each round measures the peak rate of a closed loop,
then sends multiples of it in an open loop: each request is sent at its due time, from which its
latency is measured. Goodput is the rate of good responses before the end of the load. Afterwards a
probe every 50 ms measures how long the latency takes to return to normal.

The generators run on the other cores. Columns of the table: "peak" is the rate of the closed loop
just before; "rejected" is the share of requests with status 503; "unsent" the share that was not
sent because every connection was still waiting for a response (zero if the service rejects requests
fast enough); "failed" the share with another status, a lost connection or no response; "lag" the
delay that the generators themselves add to a latency (99th percentile); "mb" the proportional set
size of the process tree; "recovery" the time until the first of three probes in a row that take
at most twice the normal latency.
"""

import contextlib
import http.client
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.arguments import new_parser, one_of
from bench.cores import assign_cores
from bench.load.closed_loop import require_wrk, run_wrk
from bench.load.open_loop import UNSENT, Load, OpenLoop, collect
from bench.report import new_console, print_medians
from bench.serve.requests import NATIVE_BINARY, NATIVE_JSON, HttpRequest, Protocol
from bench.serve.served_artifact import Server, example_rows, find_or_build_artifact
from bench.serve.stacks import SERVICE
from service.runtime.predictor import Predictor

FACTORS = (1, 2, 4)
"""Rates of the open loop, as multiples of the peak rate."""
CONNECTIONS = 1024
"""Maximum number of open connections of the open loop."""
PEAK_CONNECTIONS = (8, 16, 32)
"""Numbers of connections to try in the closed loop; the highest rate is the peak rate."""
PROBE_INTERVAL_SECONDS = 0.05
NORMAL_PROBES = 20
"""Number of probes whose median is the normal latency."""
RECOVERY_PROBES = 3
"""Number of consecutive probes within twice the normal latency that count as recovery."""
RECOVERY_TIMEOUT_SECONDS = 10

LoadResult = dict[str, float]
"""Measurements of one load by column of the table."""


class Workload(NamedTuple):
    """A network, and the size and protocol of the requests to send to it."""

    network: str
    rows: int
    """Number of rows per request."""
    protocol: Protocol


WORKLOADS = {
    "wide": Workload("net-1000-4096", 64, NATIVE_BINARY),
    "digits": Workload("digits", 1, NATIVE_JSON),
}


def measure_peak(server: Server, request: HttpRequest, core: int, seconds: int) -> float:
    """Return the highest rate of good responses that a closed loop reaches."""
    load = partial(run_wrk, server.port, request, core, seconds=seconds, rejections=True)
    return max(load(connections=count).requests_per_second for count in PEAK_CONNECTIONS)


def overload(
    server: Server, request: HttpRequest, loop: OpenLoop, load: Load, normal: float, peak: float
) -> LoadResult:
    """Run a load whose start is still ahead, wait for recovery, and return the figures."""
    before, start, seconds = server.memory_megabytes(), load.start, load.seconds
    futures = loop.start(load)
    time.sleep(max(0, start + seconds * 0.9 - time.monotonic()))
    loaded = server.memory_megabytes()
    time.sleep(max(0, start + seconds - time.monotonic()))
    recovery = recovery_seconds(server, request, normal)
    responses = collect(futures)
    good, rejected, unsent = (responses.status == status for status in (200, 503, UNSENT))
    in_time = good & (responses.due + responses.latency <= seconds)
    goodput = float(in_time.sum()) / seconds
    latencies = responses.latency[good] if good.any() else np.array([np.nan])
    p50_ms, p99_ms = (np.quantile(latencies, (0.5, 0.99)) * 1e3).tolist()
    return {
        **{"peak_per_s": peak, "offered_per_s": len(responses.status) / seconds},
        **{"goodput_per_s": goodput, "goodput_of_peak": goodput / peak},
        **{"p50_ms": p50_ms, "p99_ms": p99_ms},
        "rejected": float(rejected.mean()),
        "unsent": float(unsent.mean()),
        "failed": float((~(good | rejected | unsent)).mean()),
        "lag_ms": float(np.quantile(responses.lag, 0.99)) * 1e3,
        **{"before_mb": before, "loaded_mb": loaded, "after_mb": server.memory_megabytes()},
        "recovery_s": recovery,
    }


def recovery_seconds(server: Server, request: HttpRequest, normal: float) -> float:
    """Return the seconds until the latency is normal again, or infinity after the timeout."""
    started = time.monotonic()
    fast_probes: list[float] = []
    while len(fast_probes) < RECOVERY_PROBES:
        sent = time.monotonic() - started
        if sent > RECOVERY_TIMEOUT_SECONDS:
            return float("inf")
        fast_probes = [*fast_probes, sent] if probe(server, request) <= 2 * normal else []
        time.sleep(max(0, started + sent + PROBE_INTERVAL_SECONDS - time.monotonic()))
    return fast_probes[0]


def probe(server: Server, request: HttpRequest) -> float:
    """Return the seconds that one request takes, or infinity if it fails."""
    started = time.monotonic()
    with contextlib.suppress(OSError, http.client.HTTPException):
        if server.send(request)[0] == 200:
            return time.monotonic() - started
    return float("inf")


def normal_seconds(server: Server, request: HttpRequest) -> float:
    """Return the median latency of an idle server, from probes spaced as during recovery."""
    probes = []
    for _ in range(NORMAL_PROBES):
        time.sleep(PROBE_INTERVAL_SECONDS)
        probes.append(probe(server, request))
    return statistics.median(probes)


def run_workload(
    workload: Workload, cores: Sequence[int], rounds: int, seconds: int
) -> dict[str, list[LoadResult]]:
    """Return the figures of each round by factor; the server runs on the first of the cores."""
    server_core, *generator_cores = cores
    rows = example_rows(workload.network, workload.rows)
    request = workload.protocol.request(workload.network, rows)
    loads: dict[str, list[LoadResult]] = {f"{factor}x": [] for factor in FACTORS}
    artifact = find_or_build_artifact(workload.network)
    expected = Predictor(artifact).predict(rows)["probabilities"]
    with OpenLoop(generator_cores) as loop, Server(SERVICE, artifact, server_core) as server:
        server.start(request)
        server.verify(workload.protocol, request, expected)
        normal = normal_seconds(server, request)
        for seed in range(rounds):
            peak = measure_peak(server, request, generator_cores[0], max(2, seconds // 3))
            for factor, figures in zip(FACTORS, loads.values(), strict=True):
                start, requests = time.monotonic() + 0.5, [request.encode(server.port)]
                rate = factor * peak
                load = Load(server.port, requests, rate, seconds, start, CONNECTIONS, seed)
                figures.append(overload(server, request, loop, load, normal, peak))
    return loads


def main() -> None:
    """Print a table per workload, then the JSON document."""
    options = {"rounds": (3, "number of rounds"), "seconds": (10, "seconds of each load")}
    parser = new_parser(__doc__, **options)
    help_text = "workloads to run (default: all)"
    parser.add_argument("workloads", nargs="*", type=one_of(WORKLOADS), help=help_text)
    arguments = parser.parse_args()
    require_wrk()
    cores = list(dict.fromkeys(assign_cores(3)))
    console = new_console(160)
    document: dict[str, object] = {"seconds": arguments.seconds, "rounds": arguments.rounds}
    for name in arguments.workloads or WORKLOADS:
        workload = WORKLOADS[name]
        loads = run_workload(workload, cores, arguments.rounds, arguments.seconds)
        size = f"{workload.rows} rows per request"
        title = f"{name}: {workload.network}, {size}, {workload.protocol.name}"
        document[name] = print_medians(console, title, loads)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
