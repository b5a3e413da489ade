"""How a command listens and speaks: its TOML file, one clear line and an exit code for what went wrong, progress."""

import signal
from collections.abc import Sequence
from typing import Any

import click

from model.errors import DataError


class BadInput(click.ClickException):
    """What a person gave cannot be used."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C, as a shell reports it."""

    exit_code = 130


class CommandGroup(click.Group):
    """A group of commands that end in one line and exit code 2 for bad input, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, turning the errors that a person can mend into their one line."""
        pressed: list[
            int
        ] = []  # libraries swallow KeyboardInterrupt, or answer it with an error of their own

        def press(number: int, frame: object) -> None:
            pressed.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, press)
        try:
            return super().invoke(ctx)
        except DataError as error:
            raise BadInput(" ".join(str(error).splitlines())) from None
        except OSError as error:
            raise BadInput(
                f"{error.filename or ctx.command_path}: {error.strerror or error}"
            ) from None
        except (Exception, KeyboardInterrupt) as error:
            if not pressed and not isinstance(error, KeyboardInterrupt):
                raise
            raise Interrupted("interrupted; nothing is half-written") from None
        finally:
            signal.signal(signal.SIGINT, before)


def refuse_others(ctx: click.Context, flag: str, beside: Sequence[str]) -> None:
    """Raise a DataError where an option is given that has no meaning beside a flag, which brings its own settings."""
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") not in (
            None,
            click.core.ParameterSource.DEFAULT,
        )
        if given and option.name not in (flag, *beside):
            raise DataError(
                f"--{flag} brings the settings it was begun with: leave out {option.opts[0]}"
            )
