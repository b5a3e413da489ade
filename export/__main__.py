"""`python -m export build | verify`: prove a run and publish it, or prove again what is published."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cli.commands import CommandGroup
from export import ProofError
from model.errors import DataError
from service.artifact import storage
from service.artifact.manifest import ArtifactError


class ProvingCommands(CommandGroup):
    """Commands that end with exit code 1 where a proof fails."""

    input_errors = (DataError,)
    failure_errors = (ProofError, ArtifactError)
    failure_prefix = "not published: "
    extra = "train"


@click.group(cls=ProvingCommands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Turn a run into an artifact that carries its own proof."""


@main.command()
@click.argument("run", required=False)
@click.option(
    "--runs",
    default="runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are kept.",
)
@click.option(
    "--artifacts",
    default="artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where artifacts are published.",
)
def build(run: str | None, runs: Path, artifacts: Path) -> None:
    """Export RUN (by default the newest complete one) to ONNX and TorchScript, prove both, publish."""
    import torch  # takes seconds, and here Ctrl-C is understood

    from export import bundle
    from model.run import find_run, load_run, newest_run

    started = time.perf_counter()
    torch.set_num_threads(1)  # the networks are small: more threads only wait for each other
    loaded = load_run(find_run(run) if run else newest_run(runs))
    click.echo(f"exporting {loaded.path} to ONNX and TorchScript ...")
    published = bundle.build(loaded, artifacts)
    if not published.new:
        click.echo(f"already published as {published.path}; digest {published.digest}")
        return
    _print(published.proof)
    click.echo(
        f"published {published.path} in {time.perf_counter() - started:.1f} s; digest {published.digest}"
    )


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def verify(artifact: Path, as_json: bool) -> None:
    """Prove a published artifact again, on this machine, from its files alone; the golden rows stand for real ones.

    Exit code 0: proved; 1: the proof failed; 2: there is no artifact.
    """
    path, proved, error, code = artifact, None, None, 0
    try:
        path, code = storage.find_version(artifact), 1
        import torch  # takes seconds, and what is no artifact is said at once

        from export.verify import verify

        torch.set_num_threads(1)
        proved, code = verify(path), 0
    except (ProofError, ArtifactError) as failed:
        error, code = str(failed), code or 2
    if as_json:
        found = (
            {"digest": proved.digest, "proof": proved.proof}
            if proved
            else {"digest": None, "proof": None}
        )
        click.echo(
            json.dumps(
                {"artifact": str(path), "proved": proved is not None, "error": error, **found}
            )
        )
    elif proved:
        _print(proved.proof)
        click.echo(
            f"proved {path}, with its golden rows in place of real ones; digest {proved.digest}"
        )
    else:
        click.echo(f"Error: {'not proved: ' if code == 1 else ''}{error}", err=True)
    sys.exit(code)


def _print(proof: Mapping[str, Any]) -> None:
    """Print what was proved: a line, a table of runtimes, and what is not in order."""
    from rich.console import Console

    from export.proof import report

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    console.print(proof["structure"])
    console.print(report.proof_summary(proof))
    console.print(report.proof_table(proof))
    for line in report.proof_remarks(proof):
        console.print(line)


if __name__ == "__main__":
    main(prog_name="python -m export")
