"""Latency of the service while SIGHUP replaces its workers.

    python -m bench.load.replacement [--rounds 5] [--seconds 10] [--workers 2] [--share 0.3]

digits    64 -> 100 -> 10, one row per request in JSON

All workers run on one core, where a successor that starts competes with the workers that serve.
Each round measures the peak rate of a closed loop, then sends a share of it in an open loop twice:
without a signal ("before"), and with SIGHUP at the start ("during"). Requests that are due after
the last old worker has ended do not count. "unsent" is the number of requests that were not sent
because every connection waited for a response, "failed" the number of requests that were sent but
have no response with status 200, and "replaced s" the time from SIGHUP to the end of the last old
worker. The last line is the ratio of the two 99th percentiles within a round.
"""

import json
import signal
import statistics
import time
from dataclasses import replace

import numpy as np

from bench.arguments import new_parser
from bench.cores import assign_cores
from bench.load.closed_loop import require_wrk, run_wrk
from bench.load.open_loop import UNSENT, Load, OpenLoop, collect
from bench.report import new_console, print_medians
from bench.serve.requests import NATIVE_JSON
from bench.serve.served_artifact import Server, example_rows, find_or_build_artifact
from bench.serve.stacks import SERVICE
from service.runtime.predictor import Predictor

CONNECTIONS = 256
"""Maximum number of open connections of the open loop."""
PEAK_CONNECTIONS = 16
"""Number of connections of the closed loop."""
POLL_SECONDS = 0.02
"""Time in seconds between two checks whether the old workers have ended."""
PAUSE_SECONDS = 1.0
"""Seconds between a load and the next one."""


def measure(server: Server, loop: OpenLoop, load: Load, *, reload: bool) -> dict[str, float]:
    """Run a load, with SIGHUP at its start if `reload`; return the figures."""
    futures, replaced = loop.start(load), load.seconds
    time.sleep(max(0, load.start - time.monotonic()))
    if reload:
        old = server.worker_ids()
        server.send_signal(signal.SIGHUP)
        while old & server.worker_ids():
            time.sleep(POLL_SECONDS)
        replaced = time.monotonic() - load.start
        if replaced > load.seconds:
            raise SystemExit(f"expected a replacement within {load.seconds} s, found {replaced} s")
    responses = collect(futures)
    counted = responses.due < replaced
    good = counted & (responses.status == 200)
    p50_ms, p99_ms = (np.quantile(responses.latency[good], (0.5, 0.99)) * 1e3).tolist()
    return {
        **{
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "max_ms": float(responses.latency[good].max()) * 1e3,
        },
        "per_s": float(counted.sum()) / replaced,
        "unsent": float((counted & (responses.status == UNSENT)).sum()),
        "failed": float((counted & ~good & (responses.status != UNSENT)).sum()),
        "lag_ms": float(np.quantile(responses.lag, 0.99)) * 1e3,
        "replaced_s": replaced,
    }


def main() -> None:
    """Print a table, then the JSON document."""
    parser = new_parser(
        __doc__,
        rounds=(5, "number of rounds"),
        seconds=(10, "seconds of each load, more than a replacement takes"),
        workers=(2, "number of worker processes"),
        share=(0.3, "rate of the open loop, as a share of the peak rate"),
    )
    arguments = parser.parse_args()
    require_wrk()
    server_core, load_core = assign_cores(2)
    artifact, rows = find_or_build_artifact("digits"), example_rows("digits", 1)
    request, expected = NATIVE_JSON.request("digits", rows), Predictor(artifact).predict(rows)
    stack = replace(SERVICE, command=(*SERVICE.command, "--workers", str(arguments.workers)))
    series: dict[str, list[dict[str, float]]] = {"before": [], "during": []}
    with (
        OpenLoop([load_core]) as loop,
        Server(stack, artifact, server_core) as server,
    ):
        server.start(request)
        server.verify(NATIVE_JSON, request, expected["probabilities"])
        for seed in range(arguments.rounds):
            time.sleep(PAUSE_SECONDS)
            peak = run_wrk(server.port, request, load_core, PEAK_CONNECTIONS, seconds=2)
            rate = arguments.share * peak.requests_per_second
            for name, figures in series.items():
                start, requests = time.monotonic() + PAUSE_SECONDS, [request.encode(server.port)]
                seconds = arguments.seconds
                load = Load(server.port, requests, rate, seconds, start, CONNECTIONS, seed)
                result = measure(server, loop, load, reload=name == "during")
                figures.append({"peak_per_s": peak.requests_per_second, **result})
    medians = print_medians(new_console(), f"{arguments.workers} workers on one core", series)
    ratios = [
        during["p99_ms"] / before["p99_ms"]
        for before, during in zip(series["before"], series["during"], strict=True)
    ]
    ratio = statistics.median(ratios)
    print(f"p99 during / before: {ratio:.2f} (median), {max(ratios):.2f} (highest)")
    print(json.dumps({**medians, "p99_ratio": ratio, "p99_ratios": ratios}))


if __name__ == "__main__":
    main()
