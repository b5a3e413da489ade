"""The commands `python -m model train` and `python -m model formulations`."""

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
    """Return text if it is "equal" or "balanced", otherwise its comma-separated numbers."""
    if text in ("equal", "balanced"):
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        expected = "expected equal, balanced, or numbers like 1,2.5,1"
        raise DataError(f"class_weights: {expected}, found {text!r}") from None


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with an option for each field of TrainConfig."""
    hints = get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        hint, flag = hints[field.name], field.metadata["flag"]
        choice = click.Choice(get_args(hint)) if get_origin(hint) is Literal else None
        callback = parse_class_weights if field.name == "class_weights" else None
        option = {"type": choice, "callback": callback, "help": field.metadata["help"]}
        command = click.option(flag, field.name, default=field.default, **option)(command)
    return command


class TrainingCommands(CommandGroup):
    """Command group that turns a DataError into one line and exit code 2."""

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
    help="TOML file of options, for example epochs = 200; the command line overrides the file.",
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
    help="Column to predict; repeat the option for a regression with several targets.",
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
    "--name", show_default="data set or file name", help="Name of the run and of the artifact."
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
    help="Device to fit on; auto uses CUDA if available, otherwise the CPU.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the newest checkpoint (of --name, if set) with the settings stored in it.",
)
@click.option(
    "--save-every",
    default=CHECKPOINT_INTERVAL_SECONDS,
    type=click.IntRange(min=0),
    help="Seconds between checkpoints of the fit.",
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
    # torch takes seconds to import, so it is imported here, where Ctrl-C exits cleanly.
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
    location = source if source in BUNDLED_DATASETS else str(Path(source).absolute())
    device = str(find_device(device))
    request = TrainRequest(
        source=location, targets=targets, drop=drop, task=task, name=name, device=device
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
    """Load the table and fit a network to it, in this process or in those that torchrun started."""
    from model.fit.devices import find_device, process_group
    from model.table.load import load_table
    from model.training import train

    start_time = time.perf_counter()
    device = find_device(request.device)
    with process_group(device) as is_first, contextlib.ExitStack() as stack:
        if not is_first:  # Only the first process prints and keeps its run.
            runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console = _console(quiet=not is_first)
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
@click.option("--steps", default=500, help="Number of gradient steps of each form.")
@click.option("--seed", default=0, help="Seed of the data and the initial weights.")
@click.option(
    "--plot",
    default="formulations.png",
    type=click.Path(path_type=Path),
    help="PNG file to write the loss curves to.",
)
def formulations(steps: int, seed: int, plot: Path) -> None:
    """Run the same fit written six ways, and compare each with NumPy in float64."""
    from model.lessons.comparison import compare

    compare(steps, seed, plot, _console())


def _console(*, quiet: bool = False) -> "Console":
    from rich.console import Console  # an optional dependency, which --help does not need

    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=quiet)


if __name__ == "__main__":
    main(prog_name="python -m model")
