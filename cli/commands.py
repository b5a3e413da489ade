"""Groups of commands that report expected errors in one line, and lazily imported commands."""

import importlib
import importlib.util
import re
import signal
from collections.abc import Collection
from typing import Any

import click

from cli.interruption import interrupt_on_signals

OUT_OF_MEMORY = re.compile(
    "can't allocate|not enough memory|out of memory|failed to allocate|ALLOC_FAILED", re.I
)
"""Texts in PyTorch's and ONNX Runtime's errors for a failed allocation, which share no class."""


class InputError(click.ClickException):
    """Bad input, reported in one line; the exit code is 2."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Interruption by Ctrl-C; the exit code is 128 plus the number of the signal, as in a shell."""

    exit_code = 130


class Terminated(click.ClickException):
    """Interruption by SIGTERM."""

    exit_code = 143


class CommandGroup(click.Group):
    """A group of commands that report an expected error in one line, without a traceback.

    The exit code is 2 for bad input or too little memory, 1 for a failure such as a failed proof,
    130 after Ctrl-C and 143 after SIGTERM.
    """

    input_errors: tuple[type[Exception], ...] = ()
    """Error types that mean bad input, in addition to OSError."""
    failure_errors: tuple[type[Exception], ...] = ()
    """Error types that mean a failure not caused by the input."""
    failure_prefix: str = ""
    """Text to print before the message of a failure."""
    memory_advice: str = "free memory, or raise the memory limit"
    """What to do if the memory is exhausted."""
    extra: str = ""
    """Extra (optional dependencies) of pyproject.toml that the commands need."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and turn its expected errors into click's one-line errors."""
        with interrupt_on_signals() as signals:
            try:
                return super().invoke(ctx)
            except (Exception, KeyboardInterrupt) as error:
                # Some libraries replace KeyboardInterrupt with an error of their own.
                if signals or isinstance(error, KeyboardInterrupt):
                    if signal.SIGTERM in signals:
                        raise Terminated("terminated; no incomplete files remain") from None
                    raise Interrupted("interrupted; no incomplete files remain") from None
                if expected := self._expected(error, ctx):
                    raise expected from None
                raise

    def _expected(self, error: Exception, ctx: click.Context) -> click.ClickException | None:
        """Return an expected error with its one-line message, or None for a defect."""
        if isinstance(error, self.input_errors):
            return InputError(_one_line(error))
        if isinstance(error, OSError):
            return InputError(f"{error.filename or ctx.command_path}: {error.strerror or error}")
        if isinstance(error, click.ClickException):
            return None
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            size = re.search(r"allocate ([\d.]+ \w+)", str(error))
            needed = f" (an allocation of {size[1]} failed)" if size else ""
            return InputError(f"out of memory{needed}: {self.memory_advice}")
        if isinstance(error, self.failure_errors):
            return click.ClickException(self.failure_prefix + _one_line(error))
        if isinstance(error, ModuleNotFoundError):
            name = ctx.invoked_subcommand or ctx.command_path
            extra = getattr(self.commands.get(name), "extra", "") or self.extra
            message = _how_to_install(error, name, extra)
            return InputError(message) if message else None
        return None


class LazyCommand(click.Command):
    """Placeholder that lists a subcommand in `--help` without importing its module."""

    def __init__(
        self, name: str, target: str, short_help: str, *, subcommand: str = "", extra: str = ""
    ) -> None:
        """Create a placeholder.

        Args:
            name: name of the command in the group that lists it.
            target: "module:attribute" of a command, or of a CommandGroup that holds it.
            short_help: line for the `--help` of the group.
            subcommand: name of the command in the target group, if it differs from `name`.
            extra: extra of pyproject.toml that the command needs.
        """
        super().__init__(name, short_help=short_help)
        self.target, self.subcommand, self.extra = target, subcommand or name, extra

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **kw: Any
    ) -> click.Context:
        """Import the command and return its context, which makes click run it."""
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, CommandGroup):
            group = parent.command if parent else None
            if isinstance(group, CommandGroup):  # report errors as the command's own group does
                group.input_errors = command.input_errors
                group.failure_errors = command.failure_errors
                group.failure_prefix = command.failure_prefix
                group.memory_advice = command.memory_advice
            command = command.commands[self.subcommand]
        return command.make_context(info_name, args, parent=parent, **kw)


def _how_to_install(error: ModuleNotFoundError, command: str, extra: str) -> str | None:
    """Return the message for a missing package, or None if the package is installed.

    If it is installed, a submodule is missing: a defect, which should give a traceback.
    """
    package = (error.name or "").partition(".")[0]
    if not package or importlib.util.find_spec(package):
        return None
    target, extras = (".venv/.train", f"[{extra}]") if extra else (".venv/.serve", "")
    # The advice names this checkout only, because the package is not on a public index.
    remedy = f"run make {target}, or pip install '.{extras}' in this checkout"
    return f"{command} needs {package}: {remedy}"


def reject_overridden_options(ctx: click.Context, flag: str, allowed: Collection[str]) -> None:
    """Raise InputError if the user combines the flag with an option whose value is already stored.

    The parameters named in `allowed` may be combined with the flag.
    """
    defaults = (None, click.core.ParameterSource.DEFAULT)
    for option in ctx.command.params:
        is_set = ctx.get_parameter_source(option.name or "") not in defaults
        if is_set and option.name not in (flag, *allowed):
            conflict = f"--{flag} uses the settings stored with the fit"
            raise InputError(f"{conflict}: remove {option.opts[0]}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).splitlines())
