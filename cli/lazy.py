"""A subcommand whose module is imported only when the subcommand runs."""

import importlib
from typing import Any

import click

from cli.commands import CommandGroup, InputError, how_to_install, missing_package


class LazyCommand(click.Command):
    """Placeholder that lists a subcommand in `--help` without importing its module."""

    def __init__(
        self,
        name: str,
        target: str,
        short_help: str,
        *,
        subcommand: str | None = None,
        extra: str | None = None,
    ) -> None:
        """Create a placeholder.

        Args:
            name: what a person types.
            target: "module:attribute" of a command, or of a CommandGroup that holds it.
            short_help: the line that the group's `--help` shows.
            subcommand: the command's name in that CommandGroup, where it differs from `name`.
            extra: extra of pyproject.toml without which the target cannot be imported.
        """
        super().__init__(name, short_help=short_help)
        self.target = target
        self.subcommand = subcommand or name
        self.extra = extra

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **kw: Any
    ) -> click.Context:
        """Return the context of the real command, to which click hands over from here on.

        Raises:
            InputError: a package of the command's extra is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (package := missing_package(error)) is None:
                raise
            message = how_to_install(str(self.name), package, self.extra)
            raise InputError(message) from None
        if isinstance(command, CommandGroup):
            if parent and isinstance(parent.command, CommandGroup):
                parent.command.adopt_errors(command)
            command = command.commands[self.subcommand]
        context: click.Context = command.make_context(info_name, args, parent=parent, **kw)
        return context
