"""Exit codes and error messages of a group of commands."""

import os
import signal
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner

from cli.commands import CommandGroup


class Group(CommandGroup):
    """A command group that declares input errors, failures and an extra."""

    input_errors = (ValueError,)
    failure_errors = (AssertionError,)
    failure_prefix = "not published: "
    extra = "train"


def swallow_interrupt() -> None:
    """Replace KeyboardInterrupt by another error, as some libraries do."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        raise RuntimeError("the engine has failed") from None


@pytest.mark.parametrize(
    ("effect", "code", "line"),
    [
        (ValueError("t.csv: no\nrows"), 2, "t.csv: no rows"),
        (OSError(13, "Permission denied", "t.csv"), 2, "t.csv: Permission denied"),
        (OSError("the disk is full"), 2, "group: the disk is full"),
        (AssertionError("values differ"), 1, "not published: values differ"),
        (KeyboardInterrupt, 130, "interrupted; no incomplete files remain"),
        (swallow_interrupt, 130, "interrupted; no incomplete files remain"),
        (
            ModuleNotFoundError("No module", name="nowhere.inner"),
            2,
            "command needs nowhere: run make .venv/.train, or pip install '.[train]' "
            "in this checkout",
        ),
    ],
)
def test_errors_are_one_line(effect: object, code: int, line: str) -> None:
    """Bad input, a failed proof, Ctrl-C and a missing package end without a traceback."""
    command = click.Command("command", callback=Mock(side_effect=effect))
    group = Group(name="group", commands=[command])
    previous_handler = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(group, ["command"])
    assert (code, f"Error: {line}\n") == (result.exit_code, result.output)
    assert previous_handler is signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ModuleNotFoundError("No module", name="click.nowhere")]
)
def test_defects_keep_their_traceback(error: Exception) -> None:
    """An error that is not the user's fault keeps its traceback."""
    group = Group(commands=[click.Command("command", callback=Mock(side_effect=error))])
    with pytest.raises(type(error)):
        CliRunner().invoke(group, ["command"], catch_exceptions=False)
