"""The console script: every command listed and completed without importing what it needs."""

import importlib.metadata
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli.commands import LazyCommand
from cli.twolayernet import main
from tests.serving import ROOT

HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "polars", "rich", "flask", "granian"}


def run_python(code: str, **environment: str) -> str:
    """Run code in a new process; return its output."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_help_imports_no_command() -> None:
    """`twolayernet --help` works without the extras, and at once."""
    code = """import sys
from cli.twolayernet import main
main(["--help"], standalone_mode=False)
print(*sys.modules)"""
    output, _, modules = run_python(code).rpartition("| source\n")
    for name in ("train", "formulations", "export", "verify", "check", "serve", "score"):
        assert f"\n  {name} " in output
    assert set() == HEAVY & set(modules.split())


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help(name: str) -> None:
    """Each name leads to a command, whose help is printed under that name."""
    result = CliRunner().invoke(main, [name, "--help"], prog_name="twolayernet")
    assert 0 == result.exit_code, result.output
    assert result.output.startswith(f"Usage: twolayernet {name} ")


def test_errors_are_those_of_the_command() -> None:
    """A command reports bad input as it does under `python -m`."""
    result = CliRunner().invoke(main, ["check", "nope"])
    assert (2, "Error: nope: no such folder; ") == (result.exit_code, result.output[:29])
    result = CliRunner().invoke(main, ["train", "--data", "nope.csv"])
    assert (2, "Error: nope.csv: no such file\n") == (result.exit_code, result.output)


def test_version() -> None:
    """It is the installed distribution's."""
    result = CliRunner().invoke(main, ["--version"], prog_name="twolayernet")
    assert f"twolayernet {importlib.metadata.version('twolayernet')}\n" == result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("twolayernet s", ["plain,score", "plain,serve"]),
        ("twolayernet score --k", ["plain,--keep"]),
    ],
)
def test_completion(words: str, expected: list[str]) -> None:
    """The shell completes commands and their options."""
    code = "from cli.twolayernet import main; main(prog_name='twolayernet')"
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    output = run_python(code, _TWOLAYERNET_COMPLETE="bash_complete", **environment)
    assert expected == output.split()


@pytest.mark.parametrize(
    ("name", "extra"), [("train", "train"), ("verify", "train"), ("score", "score")]
)
def test_missing_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the missing package, the extra and the command of this checkout."""
    for module in ("model.__main__", "export.__main__", "service.commands.score"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    result = CliRunner().invoke(main, [name])
    install = f"run make .venv/.train, or pip install '.[{extra}]' in this checkout"
    assert (2, f"Error: {name} needs rich: {install}\n") == (result.exit_code, result.output)


def test_defects_of_a_command_keep_their_traceback() -> None:
    """A missing module of this project is no missing extra."""
    group = click.Group(commands=[LazyCommand("broken", "cli.nowhere:main", "Broken.")])
    with pytest.raises(ModuleNotFoundError, match=r"cli\.nowhere"):
        CliRunner().invoke(group, ["broken"], catch_exceptions=False)
