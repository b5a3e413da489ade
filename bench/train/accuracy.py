"""Test metric of the default settings over several seeds, compared with a linear model.

    python -m bench.train.accuracy [DATA] [--seeds 10]

Each seed draws its own split, initial weights and order of rows. The choice of the epoch to keep
does not use the test rows.
"""

import json
import statistics
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from bench.arguments import new_parser
from model.config import TrainConfig
from model.run import load_run
from model.table import load
from model.training import train


def main() -> None:
    """Print a line per seed, then the JSON document."""
    parser = new_parser(__doc__, seeds=(10, "number of seeds"))
    help_text = "file or bundled table (default: digits)"
    parser.add_argument("data", nargs="?", default="digits", help=help_text)
    arguments = parser.parse_args()
    table = load.load_table(arguments.data)
    metric = "accuracy" if table.classes else "r2"
    device, console = torch.device("cpu"), Console(quiet=True)
    values, linear_values = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            path = train(table, TrainConfig(seed=seed), device, Path(folder), console)
            record = load_run(path).record
            value, linear = record.metrics["test"][metric], record.baselines["linear"][metric]
            print(f"seed {seed}: test {metric} {value:.4f}, linear model {linear:.4f}")
            values.append(value)
            linear_values.append(linear)
    figures = {"mean": statistics.mean(values), "min": min(values)}
    figures["linear"] = statistics.mean(linear_values)
    print(json.dumps({"data": arguments.data, "metric": metric, **figures}))


if __name__ == "__main__":
    main()
