"""How a command speaks: one clear line and an exit code for what went wrong, progress on a terminal."""

import signal
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.table import DataError


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
            raise Interrupted("interrupted; nothing was written") from None
        finally:
            signal.signal(signal.SIGINT, before)


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
