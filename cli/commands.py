"""A group of commands that report every expected error in one line, with an exit code."""

import importlib.util
import signal
from collections.abc import Collection
from typing import Any

import click


class InputError(click.ClickException):
    """The input cannot be used; the message is the one line that the command prints."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C ended the command; the exit code is a shell's: 128 plus the number of SIGINT."""

    exit_code = 130


class CommandGroup(click.Group):
    """A group of commands that end in one line for an expected error, never in a traceback.

    The exit code is 2 for bad input, 1 for a failure such as a failed proof, 130 after Ctrl-C.
    """

    input_errors: tuple[type[Exception], ...] = ()
    """Error types that mean bad input; OSError is always one of them."""
    failure_errors: tuple[type[Exception], ...] = ()
    """Error types that mean a failure for which the input is not to blame."""
    failure_prefix: str = ""
    """Text in front of a failure's message."""
    extra: str | None = None
    """Extra of pyproject.toml that the commands need."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and turn its expected errors into click's one-line errors."""
        # Some libraries swallow KeyboardInterrupt or answer it with an error of their own.
        interrupts: list[int] = []

        def interrupt(number: int, frame: object) -> None:
            interrupts.append(number)
            raise KeyboardInterrupt

        previous_handler = signal.signal(signal.SIGINT, interrupt)
        try:
            return super().invoke(ctx)
        except self.input_errors as error:
            raise InputError(_one_line(error)) from None
        except OSError as error:
            place = error.filename or ctx.command_path
            raise InputError(f"{place}: {error.strerror or error}") from None
        except (Exception, KeyboardInterrupt) as error:
            if interrupts or isinstance(error, KeyboardInterrupt):
                raise Interrupted("interrupted; nothing is half-written") from None
            if isinstance(error, self.failure_errors):
                raise click.ClickException(self.failure_prefix + _one_line(error)) from None
            if isinstance(error, ModuleNotFoundError) and (package := missing_package(error)):
                name = ctx.invoked_subcommand or ctx.command_path
                raise InputError(how_to_install(name, package, self.extra)) from None
            raise
        finally:
            signal.signal(signal.SIGINT, previous_handler)

    def adopt_errors(self, other: "CommandGroup") -> None:
        """Report errors as another group does, in order to run one of its commands."""
        self.input_errors, self.failure_errors = other.input_errors, other.failure_errors
        self.failure_prefix, self.extra = other.failure_prefix, other.extra


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Return the top-level package that is not installed; None where only a submodule is missing.

    A missing submodule of an installed package is a defect, for which a traceback is right.
    """
    package = (error.name or "").partition(".")[0]
    return package if package and importlib.util.find_spec(package) is None else None


def how_to_install(command: str, package: str, extra: str | None) -> str:
    """Return the message for a command whose package is missing.

    It names this checkout only, because the distribution is on no public index.
    """
    target, extras = (".venv/.train", f"[{extra}]") if extra else (".venv/.serve", "")
    return (
        f"{command} needs {package}: run make {target}, or pip install '.{extras}' in this checkout"
    )


def refuse_others(ctx: click.Context, flag: str, allowed: Collection[str]) -> None:
    """Raise InputError where an option is set that a flag overrides with stored settings.

    Args:
        ctx: context of the running command.
        flag: name of the flag's parameter.
        allowed: names of the parameters that may be set together with the flag.
    """
    defaults = (None, click.core.ParameterSource.DEFAULT)
    for option in ctx.command.params:
        is_set = ctx.get_parameter_source(option.name or "") not in defaults
        if is_set and option.name not in (flag, *allowed):
            raise InputError(
                f"--{flag} brings the settings it was begun with: leave out {option.opts[0]}"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).splitlines())
