"""TODO: cli.toml_config."""

import csv
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.types import FloatParamType, IntParamType, ParamType

from model.errors import DataError
from tabular.names import near_miss, quote_names


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
            raise DataError(
                f"{path}: no setting '{key}'{near_miss(name, options)}; there are {quote_names(list(options))}"
            )
        if options[name].name in ctx.default_map:
            raise DataError(f"{path}: '{name}' is set twice, with '-' and with '_'")
        ctx.default_map[options[name].name or name] = _convert(
            options[name], value, f"{path}: {key}"
        )


def _convert(option: click.Option, value: Any, where: str) -> Any:
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
    if option.callback is read_list and isinstance(
        value, list
    ):  # a list of names needs no commas within them
        return ['"' + name.replace('"', '""') + '"' for name in values]
    return values if option.multiple else value


def read_list(ctx: click.Context, option: click.Parameter, lines: Sequence[str]) -> tuple[str, ...]:
    """Read names separated by commas, quoted as in a CSV line where they hold one."""
    rows = csv.reader((line.replace("\n", " ") for line in lines), skipinitialspace=True)
    return tuple(name for row in rows for name in row)
