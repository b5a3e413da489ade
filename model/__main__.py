"""`python -m model train | formulations`: fit a network to a table, or compare the lessons."""

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click

from cli.commands import CommandGroup, reject_overridden_options
from cli.toml_config import read_config, read_list
from model.config import BUNDLED_DATASETS, CHECKPOINT_INTERVAL_SECONDS, TrainConfig
from model.errors import DataError
from model.table.dataset import Task

if TYPE_CHECKING:
    from rich.console import Console

    from model.fit.checkpoint import Checkpoint, TrainRequest


def parse_class_weights(
    ctx: click.Context, option: click.Parameter, text: str
) -> str | tuple[float, ...]:
    """Return "equal", "balanced", or the comma-separated numbers of text."""
    if text in ("equal", "balanced"):
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(
            f"class_weights: expected equal, balanced, or numbers as 1,2.5,1, found {text!r}"
        ) from None


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with an option for each field of TrainConfig."""
    hints = get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        hint = hints[field.name]
        option = click.option(
            field.metadata["flag"],
            field.name,
            default=field.default,
            type=click.Choice(get_args(hint)) if get_origin(hint) is Literal else None,
            callback=parse_class_weights if field.name == "class_weights" else None,
            help=field.metadata["help"],
        )
        command = option(command)
    return command


class TrainingCommands(CommandGroup):
    """Commands that end with exit code 2 for data or settings that cannot be used."""

    input_errors = (DataError,)
    extra = "train"


@click.group(
    cls=TrainingCommands, context_settings={"show_default": True, "max_content_width": 110}
)
def main() -> None:
    """Fit a small neural network to a table."""


@main.command()
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=functools.partial(read_config, comma_separated=("class_weights",)),
    help="TOML file with values for these options, such as: epochs = 200. The command line wins.",
)
@click.option(
    "--data",
    "source",
    default="digits",
    help=f"Data to fit: {', '.join(BUNDLED_DATASETS)}, or the path of a CSV, Parquet or NPZ file.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    show_default="the data set's own",
    help="Column to predict. A regression takes several: repeat the option.",
)
@click.option(
    "--drop",
    multiple=True,
    callback=read_list,
    show_default="none",
    help="Columns to leave out, separated by commas and quoted as in a CSV file.",
)
@click.option(
    "--task",
    type=click.Choice(["regression", "classification"]),
    show_default="inferred from the target",
    help="Task to fit.",
)
@click.option(
    "--name", show_default="that of the data set or file", help="Name of the run and the artifact."
)
@click.option(
    "--runs",
    default="runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the run to, as NAME/NUMBER.",
)
@config_options
@click.option(
    "--device",
    default="auto",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Device to fit on; auto takes CUDA if available, else the CPU.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the newest checkpoint, of --name if given, with its own settings.",
)
@click.option(
    "--save-every",
    default=CHECKPOINT_INTERVAL_SECONDS,
    type=click.IntRange(min=0),
    help="Seconds between two checkpoints of the fit.",
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
    **settings: Any,
) -> None:
    """Fit a two-layer network to a table, and save the epoch with the lowest validation loss."""
    config = TrainConfig(**settings)
    # torch takes seconds to import; here, Ctrl-C during the import ends the command cleanly.
    from model.fit.checkpoint import TrainRequest, newest_checkpoint
    from model.fit.devices import find_device
    from model.table.load import run_name

    if resume:
        reject_overridden_options(
            click.get_current_context(), "resume", ("runs", "name", "save_every")
        )
        checkpoint = newest_checkpoint(runs, name and run_name(name))
        request = checkpoint.request
        _fit(request.source, request, checkpoint.config, checkpoint, runs, save_every)
        return
    request = TrainRequest(
        source=source if source in BUNDLED_DATASETS else str(Path(source).absolute()),
        targets=targets,
        drop=drop,
        task=task,
        name=name,
        device=str(find_device(device)),
    )
    _fit(source, request, config, None, runs, save_every)


def _fit(
    source: str,
    request: "TrainRequest",
    config: TrainConfig,
    checkpoint: "Checkpoint | None",
    runs: Path,
    save_every: int,
) -> None:
    """Load the table and fit it, in one process or in those of torchrun."""
    from model.fit.devices import find_device, process_group
    from model.table.load import load_table
    from model.training import train

    start_time = time.perf_counter()
    device = find_device(request.device)
    with process_group(device) as first, contextlib.ExitStack() as stack:
        if not first:  # only the first process prints and leaves a run behind
            runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console = _console(quiet=not first)
        table = load_table(
            source, targets=request.targets, drop=request.drop, task=request.task, name=request.name
        )
        rows, features = table.x.shape
        console.print(f"{table.name}: {rows} rows, {features} features; {table.notes[0]}")
        if checkpoint:
            checkpoint.check_resumable(table)
            console.print(f"resuming after epoch {len(checkpoint.history)} of {config.epochs}")
        path = train(
            table,
            config,
            device,
            runs,
            console,
            request=request,
            checkpoint=checkpoint,
            checkpoint_seconds=save_every,
        )
        seconds = time.perf_counter() - start_time
        console.print(f"{path}: complete after {seconds:.1f} s on {device}")


@main.command()
@click.option("--steps", default=500, help="Number of steps that each form takes.")
@click.option("--seed", default=0, help="Seed of the data and the initial weights.")
@click.option(
    "--plot",
    default="formulations.png",
    type=click.Path(path_type=Path),
    help="PNG file to write the loss curves to.",
)
def formulations(steps: int, seed: int, plot: Path) -> None:
    """Compare the same fit written six ways with NumPy in float64."""
    from model.lessons.comparison import compare

    compare(steps, seed, plot, _console())


def _console(*, quiet: bool = False) -> "Console":
    from rich.console import Console  # part of an extra, which --help does without

    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=quiet)


if __name__ == "__main__":
    main(prog_name="python -m model")
