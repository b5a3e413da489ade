"""The console script lists, runs and completes every command, and imports only the one it runs."""

import importlib.metadata
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cli.twolayernet import main
from tests.serving import ROOT

HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "polars", "rich", "flask", "granian"}


def test_help_imports_no_command() -> None:
    """`twolayernet --help` imports none of the packages that the commands need."""
    code = """import sys
from cli.twolayernet import main
main(["--help"], standalone_mode=False)
print(*sys.modules)"""
    command = [sys.executable, "-c", code]
    stdout = subprocess.check_output(command, cwd=ROOT, text=True)
    output, _, modules = stdout.rpartition("| source\n")
    for name in ("train", "formulations", "export", "verify", "check", "serve", "score"):
        assert f"\n  {name} " in output
    assert set() == HEAVY & set(modules.split())


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help(name: str) -> None:
    """The help of each command starts with `Usage: twolayernet` and the command's name."""
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
    """The printed version is that of the installed distribution."""
    result = CliRunner().invoke(main, ["--version"], prog_name="twolayernet")
    assert f"twolayernet {importlib.metadata.version('twolayernet')}\n" == result.output


def test_completion() -> None:
    """The shell completes the options of a command, which is imported on demand."""
    environment = {"COMP_WORDS": "twolayernet score --k", "COMP_CWORD": "2"}
    environment["_TWOLAYERNET_COMPLETE"] = "bash_complete"
    result = CliRunner().invoke(main, [], prog_name="twolayernet", env=environment)
    assert "plain,--keep\n" == result.output


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("train", "rich", "train"), ("export", "torch", "train"), ("score", "rich", "score")],
)
def test_missing_extra(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the missing package and two ways to install its extra."""
    monkeypatch.delitem(sys.modules, "service.commands.score", raising=False)
    for module in (package, "rich.console"):
        monkeypatch.setitem(sys.modules, module, None)
    result = CliRunner().invoke(main, [name])
    install = f"run make .venv/.train, or pip install '.[{extra}]' in this checkout"
    assert (2, f"Error: {name} needs {package}: {install}\n") == (result.exit_code, result.output)
