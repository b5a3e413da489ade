"""Click callbacks: defaults of options from a TOML file, and options that are lists of names."""

import csv
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click
from click.types import FloatParamType, IntParamType

from cli.commands import InputError
from tabular.names import near_miss, quote_names

CONFIG_PATH = "cli.toml_config.path"
"""Key of a context's `meta` under which read_config() stores the path of the file."""


def read_config(
    ctx: click.Context,
    option: click.Parameter,
    path: str | None,
    comma_separated: Collection[str] = (),
) -> None:
    """Set the defaults of a command's options from a TOML file; a click callback.

    An option named in `comma_separated` takes a text with commas or a TOML list.

    Raises:
        InputError: the file is not valid TOML, or the command does not accept a key or a value.
        OSError: the file cannot be read.
    """
    if path is None:
        return
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError or UnicodeDecodeError
        raise InputError(f"{path}: not readable as TOML: {error}") from None
    options = {
        known.opts[0].removeprefix("--"): known
        for known in ctx.command.params
        if isinstance(known, click.Option) and known.expose_value and not known.is_flag
    }
    ctx.default_map = {}
    ctx.meta[CONFIG_PATH] = path
    for key, value in document.items():
        flag = key.replace("_", "-")
        if flag not in options:
            hint = near_miss(flag, options) + "; there are " + quote_names(list(options))
            raise InputError(f"{path}: no setting '{key}'{hint}")
        name = str(options[flag].name)
        if name in ctx.default_map:
            raise InputError(f"{path}: '{flag}' is set twice, with '-' and with '_'")
        if name in comma_separated and isinstance(value, list):
            value = ",".join(map(str, value))
        ctx.default_map[name] = _default(options[flag], value, f"{path}: {key}")


def _default(option: click.Option, value: Any, where: str) -> Any:
    types: tuple[type, ...] = (str,)
    expected = "text"
    if isinstance(option.type, IntParamType):
        types, expected = (int,), "an integer"
    elif isinstance(option.type, FloatParamType):
        types, expected = (int, float), "a number"
    items = value if option.multiple and isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, types) or isinstance(item, bool):
            raise InputError(f"{where}: expected {expected}, found {item!r}")
        try:
            option.type.convert(item, option, None)
        except click.BadParameter as error:
            raise InputError(f"{where}: {error.message}") from None
    if option.callback is read_list and isinstance(value, list):
        # Each item of a TOML list is a complete name; the quotes keep read_list from splitting it.
        return ['"' + name.replace('"', '""') + '"' for name in items]
    return items if option.multiple else value


def read_list(ctx: click.Context, option: click.Parameter, lines: Sequence[str]) -> tuple[str, ...]:
    """Split names at commas, except inside the double quotes of CSV; a click callback."""
    rows = csv.reader((line.replace("\n", " ") for line in lines), skipinitialspace=True)
    return tuple(name for row in rows for name in row)
