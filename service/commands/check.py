"""The command `check`, which checks an artifact's hashes and golden rows on this machine."""

import json
import sys
from pathlib import Path

import click

from service.artifact import storage
from service.artifact.manifest import ArtifactError


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of text.")
def check(artifact: Path, as_json: bool) -> None:
    """Check an artifact's hashes, and that it reproduces its golden rows on this machine.

    ARTIFACT is artifacts/NAME (its newest version) or artifacts/NAME/VERSION.

    Exit code 0: the artifact is valid; 1: it is invalid; 2: there is no artifact.
    """
    path, digest, error, code = artifact, None, None, 0
    try:
        path, code = storage.find_version(artifact), 1
        from service.runtime.check import check_artifact  # onnxruntime takes long to import

        digest, code = check_artifact(path).digest, 0
    except ArtifactError as failure:
        error, code = str(failure), code or 2
    if as_json:
        report = {"artifact": str(path), "holds": error is None, "digest": digest, "error": error}
        click.echo(json.dumps(report))
    elif error is None:
        click.echo(f"{path}: hashes match and golden rows are reproduced; digest {digest}")
    else:
        click.echo(f"Error: {error}", err=True)
    sys.exit(code)
