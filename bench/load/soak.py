"""Memory of the service under a steady load of valid and invalid requests and metrics scrapes.

    python -m bench.load.soak [ARTIFACT] [--minutes 30] [--rate 1000]

Samples the proportional set size (PSS) of the process tree every 10 s, and fits a line to the last
two thirds of the samples, when caches are warm. Also counts the responses with a status other than
the expected one, and the requests that were not sent because every connection was waiting.
"""

import collections
import json
import os
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bench.arguments import new_parser
from bench.cores import assign_cores
from bench.load.open_loop import UNSENT, Load, OpenLoop, collect
from bench.serve.requests import JSON, NATIVE_BINARY, NATIVE_JSON, V2_JSON, HttpRequest
from bench.serve.served_artifact import ARTIFACT_HELP, Server, find_or_build_artifact
from bench.serve.stacks import SERVICE
from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor

SAMPLE_SECONDS = 10
CONNECTIONS = 256
"""Maximum number of open connections."""


class Case(NamedTuple):
    """One request of the load, with its expected status."""

    name: str
    request: HttpRequest
    status: int


@dataclass
class Samples:
    """Results of a soak."""

    minutes: list[float] = field(default_factory=list)
    """Time of each memory sample, in minutes from the start."""
    megabytes: list[float] = field(default_factory=list)
    """PSS of the process tree at these times."""
    statuses: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    """Number of responses by case name and status."""

    def slope(self) -> float:
        """Return MB per hour over the last two thirds of the samples, by least squares."""
        start = len(self.minutes) // 3
        if len(self.minutes) - start < 2:
            return float("nan")
        hours = np.array(self.minutes[start:]) / 60
        return float(np.polyfit(hours, self.megabytes[start:], 1)[0])


def load_cases(manifest: Manifest) -> list[Case]:
    """Return the requests that are sent in turn."""
    model = manifest.name
    low, high = np.array([(feature.min, feature.max) for feature in manifest.features]).T
    rows = np.random.default_rng(0).uniform(low, high, (64, len(low))).astype(np.float32)
    wide, infinite = np.zeros((1, len(low) + 1), np.float32), np.full_like(rows[:1], np.inf)
    native = NATIVE_JSON.request(model, rows[:1])
    xml = {"Content-Type": "application/xml"}
    valid = [
        Case(f"{protocol.name}, {count} rows", protocol.request(model, rows[:count]), 200)
        for protocol in SERVICE.protocols
        for count in (1, 64)
    ]
    return [
        *valid,
        Case("not JSON", HttpRequest("/predict", b'{"instances": [[', {"Content-Type": JSON}), 400),
        Case("too many features", NATIVE_JSON.request(model, wide), 422),
        Case("not finite", NATIVE_BINARY.request(model, infinite), 422),
        Case("unknown model", V2_JSON.request("nobody", rows[:1]), 404),
        Case("unknown content type", HttpRequest("/predict", b"<rows/>", xml), 415),
        Case("unknown path", HttpRequest("/nowhere", native.body, native.headers), 404),
        Case("metrics", HttpRequest("/metrics", method="GET"), 200),
    ]


def soak(server: Server, loop: OpenLoop, cases: list[Case], minutes: float, rate: float) -> Samples:
    """Send the cases in turn, `rate` requests per second; print a line per minute."""
    samples = Samples()
    requests = [case.request.encode(server.port) for case in cases]
    print(f"{'minutes':>8} {'PSS MB':>8}  slope MB/h")
    first_start = start = time.monotonic() + 0.5
    for number in range(max(1, round(minutes * 60 / SAMPLE_SECONDS))):
        load = Load(server.port, requests, rate, SAMPLE_SECONDS, start, CONNECTIONS, seed=number)
        responses = collect(loop.start(load))
        names = (cases[kind].name for kind in responses.kind)
        samples.statuses.update(zip(names, responses.status.tolist(), strict=True))
        samples.minutes.append((time.monotonic() - first_start) / 60)
        samples.megabytes.append(server.memory_megabytes())
        start = max(start + SAMPLE_SECONDS, time.monotonic() + 0.1)
        if number % 6 == 5:
            figures = f"{samples.minutes[-1]:8.1f} {samples.megabytes[-1]:8.1f}"
            print(f"{figures}  {samples.slope():+.2f}", flush=True)
    return samples


def main() -> None:
    """Run the load, then print the JSON document."""
    options = {"minutes": (30.0, "duration in minutes"), "rate": (1000.0, "requests per second")}
    parser = new_parser(__doc__, **options)
    parser.add_argument("artifact", nargs="?", default="digits", help=ARTIFACT_HELP)
    arguments = parser.parse_args()
    server_core, load_core = assign_cores(2)
    artifact = find_or_build_artifact(arguments.artifact)
    cases = load_cases(Predictor(artifact).manifest)
    os.sched_setaffinity(0, {load_core})
    with OpenLoop([load_core]) as loop, Server(SERVICE, artifact, server_core) as server:
        server.start(cases[0].request)
        samples = soak(server, loop, cases, arguments.minutes, arguments.rate)
    expected = {case.name: case.status for case in cases}
    unsent = sum(samples.statuses.pop((case.name, UNSENT), 0) for case in cases)
    unexpected = {
        f"{name}: {status}": count
        for (name, status), count in samples.statuses.items()
        if status != expected[name]
    }
    document = {
        **{"minutes": arguments.minutes, "responses": samples.statuses.total()},
        **{"unexpected_statuses": unexpected, "unsent": unsent},
        **{"first_MB": samples.megabytes[0], "last_MB": samples.megabytes[-1]},
        "slope_MB_per_hour": samples.slope(),
        "samples_MB": [round(sample, 2) for sample in samples.megabytes],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
