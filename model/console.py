"""How a command listens and speaks: its TOML file, one clear line and an exit code for what went wrong, progress."""

import csv
import signal
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.types import FloatParamType, IntParamType, ParamType
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.table import DataError, near_miss, quoted


class BadInput(click.ClickException):
    """What a person gave cannot be used."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C, as a shell reports it."""

    exit_code = 130


class Commands(click.Group):
    """A group of commands that end in one line and exit code 2 for bad input, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, turning the errors that a person can mend into their one line."""
        pressed: list[int] = []  # libraries swallow KeyboardInterrupt, or answer it with an error of their own

        def press(number: int, frame: object) -> None:
            pressed.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, press)
        try:
            return super().invoke(ctx)
        except DataError as error:
            raise BadInput(" ".join(str(error).splitlines())) from None
        except OSError as error:
            raise BadInput(f"{error.filename or ctx.command_path}: {error.strerror or error}") from None
        except (Exception, KeyboardInterrupt) as error:
            if not pressed and not isinstance(error, KeyboardInterrupt):
                raise
            raise Interrupted("interrupted; nothing is half-written") from None
        finally:
            signal.signal(signal.SIGINT, before)


def read_config(ctx: click.Context, option: click.Parameter, path: str | None) -> None:
    """Take the values of a TOML file, whose keys are the command's options, as defaults that flags override.

    Raises:
        DataError: the file cannot be read, or a key or a value is not what the command takes.
    """
    if path is None:
        return
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError or UnicodeDecodeError
        raise DataError(f"{path}: not readable as TOML: {error}") from None
    options = {
        declared.opts[0].removeprefix("--"): declared
        for declared in ctx.command.params
        if isinstance(declared, click.Option) and declared.expose_value and not declared.is_flag
    }
    ctx.default_map = {}
    for key, value in document.items():
        name = key.replace("_", "-")
        if name not in options:
            raise DataError(f"{path}: no setting '{key}'{near_miss(name, options)}; there are {quoted(list(options))}")
        if options[name].name in ctx.default_map:
            raise DataError(f"{path}: '{name}' is set twice, with '-' and with '_'")
        ctx.default_map[options[name].name or name] = _typed(options[name], value, f"{path}: {key}")


def _typed(option: click.Option, value: Any, where: str) -> Any:
    """Return a TOML value as click's default_map takes it."""
    accepted: ParamType[Any] = option.type
    expected: tuple[type, ...] = (str,)
    words = "text"
    if isinstance(accepted, IntParamType):
        expected, words = (int,), "an integer"
    elif isinstance(accepted, FloatParamType):
        expected, words = (int, float), "a number"
    values = value if isinstance(value, list) else [value]
    if option.name == "class_weights" and isinstance(value, list):
        return ",".join(str(number) for number in value)
    if isinstance(value, list) and not option.multiple:
        raise DataError(f"{where}: expected {words}, found a list")
    for found in values:
        if not isinstance(found, expected) or isinstance(found, bool):
            raise DataError(f"{where}: expected {words}, found {found!r}")
        try:
            accepted.convert(found, option, None)
        except click.BadParameter as error:
            raise DataError(f"{where}: {error.message}") from None
    if option.callback is read_list and isinstance(value, list):  # a list of names needs no commas within them
        return ['"' + name.replace('"', '""') + '"' for name in values]
    return values if option.multiple else value


def read_list(ctx: click.Context, option: click.Parameter, lines: Sequence[str]) -> tuple[str, ...]:
    """Read names separated by commas, quoted as in a CSV line where they hold one."""
    rows = csv.reader((line.replace("\n", " ") for line in lines), skipinitialspace=True)
    return tuple(name for row in rows for name in row)


def refuse_others(ctx: click.Context, flag: str, beside: Sequence[str]) -> None:
    """Raise a DataError where an option is given that has no meaning beside a flag, which brings its own settings."""
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") not in (None, click.core.ParameterSource.DEFAULT)
        if given and option.name not in (flag, *beside):
            raise DataError(f"--{flag} brings the settings it was begun with: leave out {option.opts[0]}")


def progress(console: Console) -> Progress:
    """Make a progress bar with counts and the time left; on a log it prints nothing."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
