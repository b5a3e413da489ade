"""Cost of starting and running an idle server: time to first response, memory, time to stop.

    python -m bench.serve.start [ARTIFACT] [--rounds 5]

Starts the service with one worker, waits for its first response, sends 200 more requests, reads the
proportional set size (PSS) of the process tree, and stops it. `python -m bench.serve.compare start`
does the same with every server.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.arguments import new_parser
from bench.cores import assign_cores
from bench.report import new_console, print_medians
from bench.serve.served_artifact import ARTIFACT_HELP, Server, find_or_build_artifact
from bench.serve.stacks import SERVICE, Stack
from service.runtime.predictor import Predictor

REQUESTS = 200
"""Number of requests to send before the memory is measured."""


def measure_start(stack: Stack, artifact: Path, core: int) -> dict[str, float]:
    """Start, use and stop a server; return its start time, memory and stop time."""
    predictor = Predictor(artifact)
    manifest, protocol = predictor.manifest, stack.protocols[0]
    rows = np.array([[feature.median for feature in manifest.features]], np.float32)
    request = protocol.request(manifest.name, rows)
    with Server(stack, artifact, core) as server:
        first_response = server.start(request)
        if manifest.task == "classification":
            server.verify(protocol, request, predictor.predict(rows)["probabilities"])
        for _ in range(REQUESTS):
            server.send(request)
        figures = {"first_response_s": first_response, "pss_mb": server.memory_megabytes()}
        return figures | {"stop_s": server.stop()}


def measure_starts(
    console: Console, stacks: Sequence[Stack], source: str, core: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Start each server in turn, round after round; print and return the medians by server."""
    artifact = find_or_build_artifact(source)
    costs: dict[str, list[dict[str, float]]] = {stack.name: [] for stack in stacks}
    for _ in range(rounds):
        for stack in stacks:
            costs[stack.name].append(measure_start(stack, artifact, core))
    title = f"start to first response; memory after {REQUESTS} requests; SIGTERM to exit"
    return print_medians(console, title, costs)


def main() -> None:
    """Print the medians, then the JSON document."""
    parser = new_parser(__doc__, rounds=(5, "number of starts"))
    parser.add_argument("artifact", nargs="?", default="digits", help=ARTIFACT_HELP)
    arguments = parser.parse_args()
    core, other_core = assign_cores(2)
    os.sched_setaffinity(0, {other_core})
    console, rounds = new_console(), arguments.rounds
    medians = measure_starts(console, [SERVICE], arguments.artifact, core, rounds)
    print(json.dumps({"rounds": arguments.rounds, "median": medians[SERVICE.name]}))


if __name__ == "__main__":
    main()
