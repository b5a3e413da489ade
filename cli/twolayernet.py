"""The console script `twolayernet`: all commands of the project, each imported when it runs."""

import click

from cli.commands import CommandGroup, LazyCommand

MODEL, EXPORT, SERVICE = "model.__main__:main", "export.__main__:main", "service.__main__:main"
EXPORT_HELP = "Export a run, prove that the files match it, and publish an artifact."

COMMANDS = (
    LazyCommand("train", MODEL, "Fit a network to a table and save it as a run.", extra="train"),
    LazyCommand("formulations", MODEL, "Compare six ways to write the same fit.", extra="train"),
    LazyCommand("export", EXPORT, EXPORT_HELP, subcommand="build", extra="train"),
    LazyCommand("verify", EXPORT, "Repeat the proof of a published artifact.", extra="train"),
    LazyCommand("check", SERVICE, "Check an artifact's hashes and golden rows."),
    LazyCommand("serve", SERVICE, "Serve predictions over HTTP."),
    LazyCommand("score", SERVICE, "Predict every row of a CSV or Parquet file.", extra="score"),
)

EPILOG = """
\b
To complete commands and options with the Tab key, run one of these lines in a shell
in which the virtual environment is active:
  bash   eval "$(_TWOLAYERNET_COMPLETE=bash_source twolayernet)"
  zsh    eval "$(_TWOLAYERNET_COMPLETE=zsh_source twolayernet)"
  fish   _TWOLAYERNET_COMPLETE=fish_source twolayernet | source
"""


@click.group(
    cls=CommandGroup,
    commands=COMMANDS,
    context_settings={"show_default": True, "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(package_name="twolayernet", message="%(prog)s %(version)s")
def main() -> None:
    """Train a small neural network on a table, export it with a proof of equality, and serve it."""
