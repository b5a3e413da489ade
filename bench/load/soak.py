"""Whether a steady load leaves memory flat: good requests in every dialect, bad ones, and scrapes of the metrics.

    python bench/soak.py [ARTIFACT] [--minutes 30] [--rate 1000]

Holds every answer to the status that its request deserves, and the process tree's proportional set size to a line: its
slope over the last two thirds of the time, when caches are warm. A sample every 10 s; "unsent" is what fell due while
all connections were waiting. The last line of stdout is one JSON document; exit code 1 if an answer was wrong.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import open_loop
from serve_dialects import JSON, NATIVE, OCTETS, V2, V2_BINARY, Question
from serve_load import OpenLoop
from serve_stacks import OURS, Server, cores

from service.artifact import storage
from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor

SAMPLE_SECONDS = 10
CONNECTIONS = 256


def mixture(about: Manifest, port: int) -> list[tuple[str, bytes, int]]:
    """Return what is sent in turn: its name, the whole request, and the status that it deserves."""
    low, high = (
        np.array([getattr(feature, end) for feature in about.features]) for end in ("min", "max")
    )
    rows = np.random.default_rng(0).uniform(low, high, (64, len(low))).astype(np.float32)
    good = [
        (f"{dialect.name}, {count} rows", dialect.ask(about.name, rows[:count]).raw(port), 200)
        for dialect in (NATIVE, V2, OCTETS, V2_BINARY)
        for count in (1, 64)
    ]
    wide = np.zeros((1, len(low) + 1), np.float32)
    unknown = NATIVE.ask(about.name, rows[:1])
    bad = [
        ("not JSON", Question("/predict", b'{"instances": [[', {"Content-Type": JSON}), 400),
        ("too wide", NATIVE.ask(about.name, wide), 422),
        ("not finite", OCTETS.ask(about.name, np.full_like(rows[:1], np.inf)), 422),
        ("no such model", V2.ask("nobody", rows[:1]), 404),
        (
            "no such type",
            Question("/predict", b"<rows/>", {"Content-Type": "application/xml"}),
            415,
        ),
        ("no such path", Question("/nowhere", unknown.body, unknown.headers), 404),
    ]
    scrape = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    return [
        *good,
        *((name, question.raw(port), status) for name, question, status in bad),
        ("metrics", scrape, 200),
    ]


def slope(minutes: list[float], megabytes: list[float]) -> float:
    """Return megabytes per hour over the last two thirds of the samples, by least squares."""
    start = len(minutes) // 3
    if len(minutes) - start < 2:
        return float("nan")
    return float(np.polyfit(np.array(minutes[start:]) / 60, megabytes[start:], 1)[0])


def main() -> None:
    """Print a line a minute, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", nargs="?", type=Path, default=Path("artifacts/digits"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=1000, help="requests per second")
    parser.add_argument("--cores", default="", help="of the server, and of the load: 0,1")
    arguments = parser.parse_args()
    core, other = cores(arguments.cores, 2)
    artifact = storage.find_version(arguments.artifact).absolute()
    about = Predictor(artifact).manifest
    minutes: list[float] = []
    megabytes: list[float] = []
    counts: collections.Counter[tuple[str, int]] = collections.Counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        OpenLoop([other], Path(folder)) as loop,
        Server(OURS, artifact, core, Path(folder) / "server", Path()) as server,
    ):
        sent = mixture(about, server.port)
        server.start(
            NATIVE.ask(
                about.name, np.array([[feature.median for feature in about.features]], np.float32)
            )
        )
        os.sched_setaffinity(0, {other})
        print(f"{'minutes':>8} {'PSS MB':>8}  slope MB/h")
        began = start = time.monotonic() + 0.5
        for number in range(round(arguments.minutes * 60 / SAMPLE_SECONDS)):
            loop.offer(
                server.port,
                [request for _, request, _ in sent],
                rate=arguments.rate,
                seconds=SAMPLE_SECONDS,
                start=start,
                connections=CONNECTIONS,
                seed=number,
            )
            answers = loop.answers()
            counts.update(
                zip((sent[kind][0] for kind in answers.kind), answers.status.tolist(), strict=True)
            )
            minutes.append((time.monotonic() - began) / 60)
            megabytes.append(server.megabytes())
            start = max(start + SAMPLE_SECONDS, time.monotonic() + 0.1)
            if number % 6 == 5:
                print(
                    f"{minutes[-1]:8.1f} {megabytes[-1]:8.1f}  {slope(minutes, megabytes):+.2f}",
                    flush=True,
                )
    unsent = sum(counts.pop((name, open_loop.UNSENT), 0) for name, _, _ in sent)
    deserved = {name: status for name, _, status in sent}
    wrong = {
        f"{name}: {status}": count
        for (name, status), count in counts.items()
        if status != deserved[name]
    }
    for what, count in wrong.items():
        print(f"wrong: {what}, {count} times")
    document = {
        "minutes": arguments.minutes,
        "answers": counts.total(),
        "wrong": wrong,
        "unsent": unsent,
        "slope_MB_per_hour": slope(minutes, megabytes),
        "first_MB": megabytes[0],
        "last_MB": megabytes[-1],
        "samples_MB": [round(figure, 2) for figure in megabytes],
    }
    print(json.dumps(document))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
