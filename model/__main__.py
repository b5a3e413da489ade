"""`python -m model train | formulations`: fit a network to rows and leave a complete run behind, or compare lessons."""

import contextlib
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from cli.commands import CommandGroup, refuse_others
from cli.toml_config import read_config, read_list
from model.config import BUNDLED_DATASETS, CHECKPOINT_INTERVAL_SECONDS, TrainConfig
from model.errors import DataError
from model.table.dataset import Task

DEFAULTS = TrainConfig()


def read_weights(ctx: click.Context, option: click.Parameter, text: str) -> str | tuple[float, ...]:
    """Read equal, balanced, or a number for each class."""
    if text in ("equal", "balanced"):
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(
            f"class_weights: expected equal, balanced, or numbers as 1,2.5,1, found {text!r}"
        ) from None


class TrainingCommands(CommandGroup):
    """Commands that end with exit code 2 for data or settings that cannot be used."""

    input_errors = (DataError,)
    extra = "train"


@click.group(
    cls=TrainingCommands, context_settings={"show_default": True, "max_content_width": 110}
)
def main() -> None:
    """Fit a small neural network to rows of numbers."""


@main.command()
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=functools.partial(read_config, comma_separated=("class_weights",)),
    help="TOML file: data = ..., lr = ...",
)
@click.option(
    "--data",
    "source",
    default="digits",
    help=f"{', '.join(BUNDLED_DATASETS)}, or a CSV, Parquet or NPZ file.",
)
@click.option(
    "--target", "targets", multiple=True, help="Column to predict; again for several (regression)."
)
@click.option(
    "--drop",
    multiple=True,
    callback=read_list,
    help="Columns to leave out: id,name (as in a CSV line).",
)
@click.option(
    "--task",
    type=click.Choice(["regression", "classification"]),
    help="Instead of the inferred one.",
)
@click.option("--name", help="Name of the run and of the artifact, instead of the file's.")
@click.option(
    "--runs",
    default="runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are kept.",
)
@click.option(
    "--hidden",
    "hidden_features",
    default=DEFAULTS.hidden_features,
    help="Width of the hidden layer.",
)
@click.option("--epochs", default=DEFAULTS.epochs, help="Passes over the training rows, at most.")
@click.option(
    "--patience",
    default=DEFAULTS.patience,
    help="Stop after so many epochs without a better one; 0: never.",
)
@click.option("--batch-size", default=DEFAULTS.batch_size, help="Rows per step.")
@click.option("--lr", "learning_rate", default=DEFAULTS.learning_rate, help="Adam's learning rate.")
@click.option(
    "--schedule",
    default=DEFAULTS.schedule,
    type=click.Choice(["constant", "cosine"]),
    help="Of the rate.",
)
@click.option("--weight-decay", default=DEFAULTS.weight_decay, help="AdamW's.")
@click.option(
    "--reduction",
    default=DEFAULTS.reduction,
    type=click.Choice(["mean", "sum"]),
    help="A batch's loss.",
)
@click.option(
    "--class-weights",
    default=DEFAULTS.class_weights,
    callback=read_weights,
    help="equal, balanced, or 1,2.5,1.",
)
@click.option(
    "--seed", default=DEFAULTS.seed, help="Decides split, initial weights and the order of rows."
)
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option(
    "--resume", is_flag=True, help="Go on with the fit that was interrupted last (of --name)."
)
@click.option(
    "--save-every",
    default=CHECKPOINT_INTERVAL_SECONDS,
    type=click.IntRange(min=0),
    help="Seconds between two saves of the unfinished fit.",
)
def train(
    source: str,
    targets: tuple[str, ...],
    drop: tuple[str, ...],
    task: Task | None,
    name: str | None,
    runs: Path,
    device: str,
    resume: bool,
    save_every: int,
    **chosen: Any,
) -> None:
    """Fit TwoLayerNet with Adam; keep the epoch with the lowest validation loss."""
    config = TrainConfig(**chosen)
    from rich.console import Console

    from model import train  # torch takes seconds to import, and here Ctrl-C is understood
    from model.fit.checkpoint import TrainRequest, newest_checkpoint
    from model.fit.devices import find_device, process_group
    from model.table import load

    started = time.perf_counter()
    place = source if source in BUNDLED_DATASETS else str(Path(source).absolute())
    unfinished = None
    if resume:
        refuse_others(click.get_current_context(), "resume", allowed=("runs", "name", "save_every"))
        unfinished = newest_checkpoint(runs, name and load.run_name(name))
        request, config, source = unfinished.request, unfinished.config, unfinished.request.source
        where = find_device(request.device)
    else:
        where = find_device(device)
        request = TrainRequest(
            source=place, targets=targets, drop=drop, task=task, name=name, device=str(where)
        )
    with process_group(where) as first, contextlib.ExitStack() as stack:
        if not first:  # the first process of several speaks and writes for all
            runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console = Console(
            highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=not first
        )
        table = load.load_table(
            source, targets=request.targets, drop=request.drop, task=request.task, name=request.name
        )
        console.print(
            f"{table.name}: {len(table.x)} rows, {len(table.features)} features; {table.notes[0]}"
        )
        if unfinished:
            unfinished.refuse_other(table)
            console.print(
                f"going on after epoch {len(unfinished.history)} of {config.epochs}, as begun"
            )
        path = train.train(
            table,
            config,
            where,
            runs,
            console,
            request=request,
            unfinished=unfinished,
            save_seconds=save_every,
        )
        console.print(f"{path}: complete after {time.perf_counter() - started:.1f} s on {where}")


@main.command()
@click.option("--steps", default=500, help="Steps of each form.")
@click.option("--seed", default=0, help="Decides the data and the first weights.")
@click.option(
    "--plot",
    default="formulations.png",
    type=click.Path(path_type=Path),
    help="The loss curves, a PNG.",
)
def formulations(steps: int, seed: int, plot: Path) -> None:
    """Run the same fit written six ways, side by side, held to NumPy in float64."""
    from rich.console import Console

    from model.lessons import comparison

    comparison.compare(
        steps, seed, plot, Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    )


if __name__ == "__main__":
    main(prog_name="python -m model")
