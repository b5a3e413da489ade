"""The commands `python -m export build` and `python -m export verify`."""

import json
import sys
import time
from pathlib import Path

import click

from cli.commands import CommandGroup
from export.errors import ProofError
from model.errors import DataError
from service.artifact import storage
from service.artifact.manifest import ArtifactError
from service.artifact.schema import schema_notice

FOLDER = click.Path(path_type=Path, file_okay=False)


class ProofCommands(CommandGroup):
    """Commands whose exit code is 1 if a proof fails."""

    input_errors = (DataError,)
    failure_errors = (ProofError, ArtifactError)
    failure_prefix = "not published: "
    extra = "train"


@click.group(cls=ProofCommands, context_settings={"show_default": True, "max_content_width": 100})
def main() -> None:
    """Export a trained run to ONNX and TorchScript, and prove that both compute its network."""


@main.command(short_help="Export a run, prove that the files match it, and publish them.")
@click.argument("run", required=False)
@click.option("--runs", default="runs", type=FOLDER, help="Folder to search for the newest run.")
@click.option("--artifacts", default="artifacts", type=FOLDER, help="Folder to publish in.")
def build(run: str | None, runs: Path, artifacts: Path) -> None:
    """Export RUN to ONNX and TorchScript, prove that both compute its network, and publish.

    RUN is a folder such as runs/houses/1; the default is the newest complete run. The artifact is
    published as <name>/<version>, unless the newest version already equals it.

    Exit code 0: the run is published; 1: the proof failed, and nothing was published; 2: the run
    does not exist, or the artifact cannot be written.
    """
    import torch  # Takes seconds; imported here so that Ctrl-C ends it without a traceback.

    from export import bundle
    from export.proof.report import print_proof
    from model.run import find_run, load_run, newest_run

    started = time.perf_counter()
    torch.set_num_threads(1)  # More threads do not speed up small networks.
    trained = load_run(find_run(run) if run else newest_run(runs))
    click.echo(f"exporting {trained.path} to ONNX and TorchScript ...")
    artifact = bundle.build(trained, artifacts)
    if artifact.proof is None:
        click.echo(f"already published as {artifact.path}; digest {artifact.digest}")
        return
    print_proof(artifact.proof)
    seconds = time.perf_counter() - started
    for line in schema_notice(artifact.path):
        click.echo(line)
    click.echo(f"published {artifact.path} in {seconds:.1f} s; digest {artifact.digest}")


@main.command(short_help="Repeat the proof of a published artifact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def verify(artifact: Path, as_json: bool) -> None:
    """Prove ARTIFACT again on this machine; only its own files are needed.

    ARTIFACT is artifacts/<name>, for its newest version, or artifacts/<name>/<version>. The proof
    uses the rows of golden.json, because the training data are not published.

    Exit code 0: the artifact is proved; 1: the proof failed; 2: the artifact does not exist.
    """
    path, verification, error, code = artifact, None, None, 0
    try:
        path, code = storage.find_version(artifact), 1
        import torch  # The import takes seconds, so a missing artifact is reported first.

        from export.proof.report import print_proof
        from export.verification import verify

        torch.set_num_threads(1)
        verification, code = verify(path), 0
    except (ProofError, ArtifactError) as failure:
        error, code = str(failure), code or 2
    if as_json:
        document = {
            "artifact": str(path),
            "proved": verification is not None,
            "error": error,
            "digest": verification.digest if verification else None,
            "proof": verification.proof.to_members() if verification else None,
        }
        click.echo(json.dumps(document))
    elif verification:
        print_proof(verification.proof)
        click.echo(f"proved {path} on its golden rows; digest {verification.digest}")
    else:
        click.echo(f"Error: {'not proved: ' if code == 1 else ''}{error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="python -m export")
