"""Duration of a training step by number of threads: the basis of a rule in model/fit/devices.py.

    python -m bench.train.threads

Times a step of in_features -> hidden_features -> 10 on 1, 2, 4, ... threads for a grid of shapes,
relative to one thread. "plain" is a step of the plain loop on all cores, and "chosen" the number of
threads that a fit uses.
"""

import contextlib
import json
import os
import time
from itertools import product
from pathlib import Path

import torch

from bench.arguments import new_parser
from bench.report import new_console, new_table
from bench.train.jobs import engine, plain
from model.fit.devices import CORES, thread_count
from model.net import TwoLayerNet

IN_FEATURES = (16, 64, 256, 1000, 4000)
HIDDEN_FEATURES = (16, 100, 512, 2048, 8192)
BATCH_ROWS = (16, 64, 256, 1024)
MAX_MULTIPLICATIONS = 1 << 31
"""Maximum number of multiplications of a forward pass; larger shapes are left out."""
THREAD_COUNTS = [*(1 << i for i in range(CORES.bit_length()) if 1 << i < CORES), CORES]
ROUNDS = 3
"""Number of rounds, of which the fastest counts."""
MULTIPLICATIONS_PER_RUN = 1 << 31
MAX_STEPS = 300


def measure(in_features: int, hidden_features: int, batch: int) -> dict[str, float]:
    """Return the duration of a step by number of threads, and of the plain loop."""
    x, y = torch.randn(batch, in_features), torch.randn(batch, 10)
    run_engine = engine(TwoLayerNet(in_features, hidden_features, 10), x, y)
    run_plain = plain(TwoLayerNet(in_features, hidden_features, 10), x, y)
    forms = [(str(count), count, run_engine) for count in THREAD_COUNTS]
    products = in_features * hidden_features * batch
    steps = max(1, min(MAX_STEPS, MULTIPLICATIONS_PER_RUN // products))
    fastest: dict[str, float] = {}
    # The plain loop prints the loss of every step.
    with Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null):
        for _ in range(ROUNDS):
            for name, threads, run in [*forms, ("plain", CORES, run_plain)]:
                torch.set_num_threads(threads)
                run(1)  # warm-up of threads and caches
                started = time.perf_counter()
                run(steps)
                duration = (time.perf_counter() - started) / steps
                fastest[name] = min(fastest.get(name, duration), duration)
    return fastest


def main() -> None:
    """Print a table, the smallest shape first, then the JSON document."""
    new_parser(__doc__).parse_args()
    shapes = [
        shape
        for shape in product(IN_FEATURES, HIDDEN_FEATURES, BATCH_ROWS)
        if shape[0] * shape[1] * shape[2] <= MAX_MULTIPLICATIONS
    ]
    shapes.sort(key=lambda shape: shape[2] * shape[1] * (shape[0] + 10))
    threads = (f"{count} threads" for count in THREAD_COUNTS)
    table = new_table("in x hidden, batch", "us", *threads, "plain", "chosen")
    document = []
    for in_features, hidden_features, batch in shapes:
        seconds = measure(in_features, hidden_features, batch)
        chosen = thread_count(TwoLayerNet(in_features, hidden_features, 10), batch, CORES)
        shape = {"in_features": in_features, "hidden_features": hidden_features, "batch": batch}
        document.append({**shape, "seconds": seconds, "chosen": chosen})
        ratios = (f"{duration / seconds['1']:.2f}" for duration in seconds.values())
        name = f"{in_features} x {hidden_features}, {batch}"
        table.add_row(name, f"{seconds['1'] * 1e6:.0f}", *ratios, str(chosen))
    new_console().print(table, "")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
