"""How a command speaks: one clear line and an exit code for what went wrong, progress on a terminal."""

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
        try:
            return super().invoke(ctx)
        except DataError as error:
            raise BadInput(" ".join(str(error).splitlines())) from None
        except OSError as error:
            raise BadInput(f"{error.filename or ctx.command_path}: {error.strerror or error}") from None
        except KeyboardInterrupt:
            raise Interrupted("interrupted; nothing was written") from None


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
