"""`python -m export build | verify`: prove and publish a run, or prove what is published again."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.commands import CommandGroup
from export.errors import ProofError
from model.errors import DataError
from service.artifact import storage
from service.artifact.manifest import ArtifactError

if TYPE_CHECKING:
    from export.proof.prove import Proof

FOLDER = click.Path(path_type=Path, file_okay=False)


class ProofCommands(CommandGroup):
    """Commands that end with exit code 1 where a proof fails."""

    input_errors = (DataError,)
    failure_errors = (ProofError, ArtifactError)
    failure_prefix = "not published: "
    extra = "train"


@click.group(cls=ProofCommands, context_settings={"show_default": True, "max_content_width": 100})
def main() -> None:
    """Publish a trained run as ONNX and TorchScript files that are proved to be the network."""


@main.command(short_help="Prove a run and publish it as an artifact.")
@click.argument("run", required=False)
@click.option("--runs", default="runs", type=FOLDER, help="Folder of runs, to look up the newest.")
@click.option("--artifacts", default="artifacts", type=FOLDER, help="Folder in which to publish.")
def build(run: str | None, runs: Path, artifacts: Path) -> None:
    """Export RUN to ONNX and TorchScript, prove that both are the trained network, and publish.

    RUN is a folder such as runs/houses/1; by default the newest complete run. It is published as
    <name>/<version>, unless it is the newest version already.

    Exit code 0: published, now or before; 1: the proof failed, and nothing was published; 2: there
    is no such run, or the artifact cannot be written.
    """
    import torch  # takes seconds, after which Ctrl-C must still end in one line

    from export import bundle
    from model.run import find_run, load_run, newest_run

    started = time.perf_counter()
    torch.set_num_threads(1)  # small networks gain nothing from more threads
    loaded = load_run(find_run(run) if run else newest_run(runs))
    click.echo(f"exporting {loaded.path} to ONNX and TorchScript ...")
    published = bundle.build(loaded, artifacts)
    if published.proof is None:
        click.echo(f"already published as {published.path}; digest {published.digest}")
        return
    _print(published.proof)
    seconds = time.perf_counter() - started
    click.echo(f"published {published.path} in {seconds:.1f} s; digest {published.digest}")


@main.command(short_help="Repeat the proof of a published artifact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def verify(artifact: Path, as_json: bool) -> None:
    """Repeat the proof of ARTIFACT on this machine, from its files alone.

    ARTIFACT is artifacts/<name>, for its newest version, or artifacts/<name>/<version>. Real rows
    are not published, so the rows of golden.json take their place.

    Exit code 0: proved; 1: the proof failed; 2: there is no artifact.
    """
    path, proved, error, code = artifact, None, None, 0
    try:
        path, code = storage.find_version(artifact), 1
        import torch  # takes seconds, and a missing artifact is reported at once

        from export.verification import verify

        torch.set_num_threads(1)
        proved, code = verify(path), 0
    except (ProofError, ArtifactError) as failed:
        error, code = str(failed), code or 2
    if as_json:
        document = {
            "artifact": str(path),
            "proved": proved is not None,
            "error": error,
            "digest": proved.digest if proved else None,
            "proof": proved.proof.to_members() if proved else None,
        }
        click.echo(json.dumps(document))
    elif proved:
        _print(proved.proof)
        click.echo(f"proved {path} on its golden rows; digest {proved.digest}")
    else:
        click.echo(f"Error: {'not proved: ' if code == 1 else ''}{error}", err=True)
    sys.exit(code)


def _print(proof: "Proof") -> None:
    """Print the summary, the table of runtimes, and the remarks."""
    from rich.console import Console

    from export.proof import report

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    console.print(report.proof_summary(proof))
    console.print(report.proof_table(proof))
    for line in report.proof_remarks(proof):
        console.print(line)


if __name__ == "__main__":
    main(prog_name="python -m export")
