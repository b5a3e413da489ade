"""`python -m model train`: fit a network to rows, and leave a complete run behind."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from model.config import BUNDLED, TrainConfig
from model.console import Commands
from model.table import Task

DEFAULTS = TrainConfig()


@click.group(cls=Commands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Fit a small neural network to rows of numbers."""


@main.command()
@click.option("--data", "source", default="digits", help=f"{', '.join(BUNDLED)}, or a CSV, Parquet or NPZ file.")
@click.option("--target", "targets", multiple=True, help="Column to predict; again for several (regression).")
@click.option("--drop", default="", help="Columns to leave out: id,name (quoted as in a CSV line).")
@click.option("--task", type=click.Choice(["regression", "classification"]), help="Instead of the inferred one.")
@click.option("--name", help="Name of the run and of the artifact, instead of the file's.")
@click.option("--runs", default="runs", type=click.Path(path_type=Path, file_okay=False), help="Where runs are kept.")
@click.option("--hidden", "hidden_features", default=DEFAULTS.hidden_features, help="Width of the hidden layer.")
@click.option("--epochs", default=DEFAULTS.epochs, help="Passes over the training rows.")
@click.option("--batch-size", default=DEFAULTS.batch_size, help="Rows per step.")
@click.option("--lr", "learning_rate", default=DEFAULTS.learning_rate, help="Adam's learning rate.")
@click.option("--seed", default=DEFAULTS.seed, help="Decides split, initial weights and the order of rows.")
@click.option("--device", "device_name", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
def train(
    source: str,
    targets: Sequence[str],
    drop: str,
    task: Task | None,
    name: str | None,
    runs: Path,
    hidden_features: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device_name: str,
) -> None:
    """Fit TwoLayerNet with Adam; keep the epoch with the lowest validation loss."""
    from model import data, run  # torch takes seconds to import, and here Ctrl-C is understood
    from model.train import device

    started = time.perf_counter()
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    config = TrainConfig(
        hidden_features=hidden_features,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    where = device(device_name)
    dropped = next(csv.reader([drop.replace("\n", " ")], skipinitialspace=True), [])
    table = data.load(source, targets=targets, drop=dropped, task=task, name=name)
    console.print(f"{table.name}: {len(table.x)} rows, {len(table.features)} features; {table.notes[0]}")
    path = run.train(table, config, where, runs, console)
    console.print(f"{path}: complete after {time.perf_counter() - started:.1f} s on {where}")


if __name__ == "__main__":
    main(prog_name="python -m model")
