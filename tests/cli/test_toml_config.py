"""A TOML file with defaults for options: values, overriding flags, and error messages."""

import functools
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cli.toml_config import read_config, read_list


@click.command()
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=functools.partial(read_config, comma_separated=["weights"]),
)
@click.option("--data", "source", default="digits")
@click.option("--target", multiple=True)
@click.option("--drop", multiple=True, callback=read_list)
@click.option("--schedule", default="constant", type=click.Choice(["constant", "cosine"]))
@click.option("--batch-size", default=64)
@click.option("--lr", default=0.5)
@click.option("--class-weights", "weights", default="equal")
@click.option("--resume", is_flag=True)
@click.pass_obj
def command(values: dict[str, Any], /, **options: Any) -> None:
    """Copy the options into the context's object."""
    values |= options


NAMES = "'data', 'target', 'drop', 'schedule', 'batch-size', 'lr', 'class-weights'"
DEFAULTS: dict[str, Any] = {"source": "digits", "target": (), "drop": (), "resume": False}
DEFAULTS |= {"schedule": "constant", "batch_size": 64, "lr": 0.5, "weights": "equal"}


def run(folder: Path, toml: str, *arguments: str) -> tuple[Result, dict[str, Any]]:
    """Run the command with a file; return its result and the options that it received."""
    path = folder / "fit.toml"
    path.write_text(toml, encoding="latin-1")
    values: dict[str, Any] = {}
    return CliRunner().invoke(command, ["--config", str(path), *arguments], obj=values), values


@pytest.mark.parametrize(
    ("toml", "arguments", "expected"),
    [
        ("", "", {}),
        ('schedule = "cosine"\nlr = 1', "", {"schedule": "cosine", "lr": 1.0}),
        ("batch_size = 7\nlr = 1e-2", "--batch-size 8", {"batch_size": 8, "lr": 0.01}),
        ('target = ["age", "b"]', "", {"target": ("age", "b")}),
        ('target = ["age", "b"]', "--target c", {"target": ("c",)}),
        ('drop = "id, name"', "", {"drop": ("id", "name")}),
        ("drop = ['a,b', 'c\"d']", "", {"drop": ("a,b", 'c"d')}),
        ('drop = "id"', "--drop name,b --drop c", {"drop": ("name", "b", "c")}),
        ('class-weights = "balanced"', "", {"weights": "balanced"}),
        ("class_weights = [1, 2.5]", "", {"weights": "1,2.5"}),
    ],
)
def test_values(toml: str, arguments: str, expected: dict[str, Any], tmp_path: Path) -> None:
    """A flag overrides the file, which overrides the default; lists are not merged."""
    result, values = run(tmp_path, toml, *arguments.split())
    assert 0 == result.exit_code, result.output
    assert DEFAULTS | expected == values


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "bath_size = 3",
            "no setting 'bath_size' (did you mean 'batch-size'?); there are " + NAMES,
        ),
        ("resume = true", f"no setting 'resume'; there are {NAMES}"),
        ("batch-size = 3\nbatch_size = 4", "'batch-size' is set twice, with '-' and with '_'"),
        ('batch_size = "10"', "batch_size: expected an integer, found '10'"),
        ("batch_size = 1.5", "batch_size: expected an integer, found 1.5"),
        ('lr = "x"', "lr: expected a number, found 'x'"),
        ("lr = false", "lr: expected a number, found False"),
        ("data = 3", "data: expected text, found 3"),
        ("data = 2026-01-02", "data: expected text, found datetime.date(2026, 1, 2)"),
        ('data = ["a.csv"]', "data: expected text, found ['a.csv']"),
        ('target = ["a", 1]', "target: expected text, found 1"),
        ('schedule = "cosin"', "schedule: 'cosin' is not one of 'constant', 'cosine'."),
        ("lr: 3", "not readable as TOML: Expected '=' after a key"),
        ("lr = 3\nlr = 4", "not readable as TOML: Cannot overwrite a value"),
        ("data = '\xff'", "not readable as TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_bad_file(toml: str, message: str, tmp_path: Path) -> None:
    """The error is one line with the file, the key, the expected value and the actual one."""
    result, _ = run(tmp_path, toml)
    assert 2 == result.exit_code
    assert result.output.startswith(f"Error: {tmp_path / 'fit.toml'}: {message}")
    assert 1 == len(result.output.splitlines())
