"""The exit codes and lines with which a group of commands reports errors."""

import os
import signal
from collections.abc import Callable
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from cli.commands import CommandGroup


class BadData(ValueError):
    """Bad input."""


class Failure(Exception):
    """A failed proof."""


class Group(CommandGroup):
    """A group with all kinds of errors."""

    input_errors = (BadData,)
    failure_errors = (Failure,)
    failure_prefix = "not published: "
    extra = "train"


def swallow_interrupt() -> None:
    """Answer Ctrl-C with an error of another kind, as some libraries do."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        raise RuntimeError("the engine has failed") from None


def failing(error: BaseException) -> Callable[[], NoReturn]:
    """Return a function that raises an error."""

    def fail() -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        (failing(BadData("t.csv: no\nrows")), 2, "t.csv: no rows"),
        (failing(OSError(13, "Permission denied", "t.csv")), 2, "t.csv: Permission denied"),
        (failing(OSError("the disk is full")), 2, "group: the disk is full"),
        (failing(Failure("values differ")), 1, "not published: values differ"),
        (failing(KeyboardInterrupt()), 130, "interrupted; nothing is half-written"),
        (swallow_interrupt, 130, "interrupted; nothing is half-written"),
        (
            failing(ModuleNotFoundError("No module", name="nowhere.inner")),
            2,
            "command needs nowhere: run make .venv/.train, or pip install '.[train]' "
            "in this checkout",
        ),
    ],
)
def test_errors_are_one_line(body: Callable[[], None], code: int, line: str) -> None:
    """Bad input, a failed proof, Ctrl-C and a missing package end without a traceback."""
    group = Group(name="group", commands=[click.Command("command", callback=body)])
    previous_handler = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(group, ["command"])
    assert (code, f"Error: {line}\n") == (result.exit_code, result.output)
    assert previous_handler is signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ModuleNotFoundError("No module", name="click.nowhere")]
)
def test_defects_keep_their_traceback(error: Exception) -> None:
    """An error that no person can mend is not hidden."""
    group = Group(commands=[click.Command("command", callback=failing(error))])
    with pytest.raises(type(error)):
        CliRunner().invoke(group, ["command"], catch_exceptions=False)
