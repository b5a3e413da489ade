"""Test quality of the default settings over ten seeds: one seed proves nothing.

    python bench/accuracy.py [DATA] [--seeds 10]

Each seed draws its own split, initial weights and order of rows; the test rows play no part in the choice of the
epoch. The last line of stdout is one JSON document.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from model.config import TrainConfig
from model.run import load_run
from model.table import load
from model.training import train


def main() -> None:
    """Print a line per seed, then the mean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    table = load.load_table(arguments.source)
    metric = "accuracy" if table.classes else "r2"
    found, linear = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            path = train(
                table,
                TrainConfig(seed=seed),
                torch.device("cpu"),
                Path(folder),
                Console(quiet=True),
            )
            record = load_run(path).record
            found.append(record.metrics["test"][metric])
            linear.append(record.baselines["linear"][metric])
            print(f"seed {seed}: test {metric} {found[-1]:.4f}, linear baseline {linear[-1]:.4f}")
    mean, baseline = statistics.mean(found), statistics.mean(linear)
    print(
        json.dumps(
            {
                "data": arguments.source,
                "metric": metric,
                "mean": mean,
                "min": min(found),
                "linear": baseline,
            }
        )
    )


if __name__ == "__main__":
    main()
