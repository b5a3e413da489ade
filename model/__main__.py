"""The commands `python -m model train` and `python -m model formulations`."""

import contextlib
import dataclasses
import functools
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click

from cli.commands import CommandGroup, InputError, reject_overridden_options
from cli.toml_config import CONFIG_PATH, read_config, read_list
from model.config import BUNDLED_DATASETS, CHECKPOINT_INTERVAL_SECONDS, TrainConfig
from model.errors import DataError, SettingError
from model.table.dataset import Task

if TYPE_CHECKING:
    from rich.console import Console

    from model.fit.checkpoint import Checkpoint, TrainRequest

MAKE_VARIABLE = "MODEL_STARTED_BY_MAKE"
"""Environment variable that the Makefile sets for the commands of its targets."""


def split_class_weights(
    ctx: click.Context, option: click.Parameter, text: str
) -> str | tuple[float, ...]:
    """Return comma-separated numbers as a tuple, and any other text as it is."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with an option for each field of TrainConfig."""
    hints = get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        hint, flag = hints[field.name], field.metadata["flag"]
        choice = click.Choice(get_args(hint)) if get_origin(hint) is Literal else None
        callback = split_class_weights if field.name == "class_weights" else None
        option = {"type": choice, "callback": callback, "help": field.metadata["help"]}
        command = click.option(flag, field.name, default=field.default, **option)(command)
    return command


@contextlib.contextmanager
def settings_by_option() -> Iterator[None]:
    """Name a setting in an error as the user knows it: by its flag, or by the key in the file."""
    ctx = click.get_current_context()
    try:
        yield
    except SettingError as error:
        flag = next(option.opts[0] for option in ctx.command.params if option.name == error.name)
        if ctx.get_parameter_source(error.name) == click.core.ParameterSource.DEFAULT_MAP:
            flag = f"{ctx.meta[CONFIG_PATH]}: {flag.removeprefix('--')}"
        raise InputError(f"{flag}: {error.problem}") from None


class TrainingCommands(CommandGroup):
    """Command group that turns a DataError into one line and exit code 2."""

    input_errors = (DataError,)
    memory_advice = "use a smaller --hidden or --batch-size, or fewer rows or columns"
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
@settings_by_option()
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
    from model.fit.checkpoint import describe_progress
    from model.fit.devices import find_device, process_group
    from model.table.load import load_table
    from model.training import train

    start_time = time.perf_counter()
    device = find_device(request.device)
    with process_group(device) as is_first, contextlib.ExitStack() as stack:
        if not is_first:  # Only the first process prints, saves checkpoints and keeps its run.
            runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console = _console(quiet=not is_first)
        table = load_table(
            source, targets=request.targets, drop=request.drop, task=request.task, name=request.name
        )
        rows, features = table.x.shape
        console.print(f"{table.name}: {rows} rows, {features} features; {table.notes[0]}")
        if checkpoint:
            checkpoint.check_resumable(table)
            progress = len(checkpoint.history), len(checkpoint.tensors["losses"])
            console.print(f"resuming after {describe_progress(*progress, config.epochs)}")
        path = train(
            table,
            config,
            device,
            runs,
            console,
            request=request if is_first else None,
            checkpoint=checkpoint,
            checkpoint_seconds=save_every,
            resume_command=resume_command(table.name, runs, save_every),
        )
        seconds = time.perf_counter() - start_time
        console.print(f"{path}: complete after {seconds:.1f} s on {device}")


def resume_command(name: str, runs: Path, save_every: int) -> str:
    """Return the command that resumes a fit of this name, in the way this one was started."""
    options = ["--resume", "--name", name]
    if runs != Path("runs"):
        options += ["--runs", str(runs)]
    if save_every != CHECKPOINT_INTERVAL_SECONDS:
        options += ["--save-every", str(save_every)]
    program = click.get_current_context().command_path
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started this process
        local, total = (int(os.environ[key]) for key in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        nodes = f"--nnodes {total // local} " if total > local else ""
        is_module = program.startswith("python ")
        start = program.removeprefix("python ") if is_module else f"--no-python {program}"
        return f"torchrun {nodes}--nproc-per-node {local} {start} {shlex.join(options)}"
    if MAKE_VARIABLE not in os.environ:
        return f"{program} {shlex.join(options)}"
    if len(options) == 3:
        return f"make resume NAME={name}"
    return f".venv/bin/{program} {shlex.join(options)}"


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
