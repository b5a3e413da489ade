"""`python -m service serve | score | check`; each command is imported only when it runs."""

import click

from cli.commands import CommandGroup, LazyCommand
from service.artifact.manifest import ArtifactError
from service.settings import SettingsError


class ServiceCommands(CommandGroup):
    """Commands that end with exit code 2 for an artifact or a setting that cannot be used."""

    input_errors = (ArtifactError, SettingsError)


SERVE, SCORE, CHECK = (f"service.commands.{name}:{name}" for name in ("serve", "score", "check"))

COMMANDS = (
    LazyCommand("serve", SERVE, "Serve predictions over HTTP."),
    LazyCommand("score", SCORE, "Predict every row of a CSV or Parquet file.", extra="score"),
    LazyCommand("check", CHECK, "Check an artifact's hashes and golden rows."),
)


@click.group(
    cls=ServiceCommands,
    commands=COMMANDS,
    context_settings={"show_default": True, "max_content_width": 100},
)
def main() -> None:
    """Predict with an artifact: over HTTP, or for every row of a file."""


if __name__ == "__main__":
    main(prog_name="python -m service")
