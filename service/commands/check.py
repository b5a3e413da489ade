"""The command `check`, which checks an artifact's hashes and golden rows on this machine."""

import json
import sys
from pathlib import Path

import click

from service.artifact import storage
from service.artifact.manifest import ArtifactError
from service.artifact.schema import schema_notice


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of text.")
def check(artifact: Path, as_json: bool) -> None:
    """Check an artifact's hashes, and that it reproduces its golden rows on this machine.

    ARTIFACT is artifacts/NAME (its newest version) or artifacts/NAME/VERSION.

    A valid version whose schema differs from that of the version before it is reported, because a
    running server refuses it.

    Exit code 0: the artifact is valid; 1: it is invalid; 2: there is no artifact.
    """
    path, digest, error, code = artifact, None, None, 0
    notice: list[str] = []
    try:
        path, code = storage.find_version(artifact), 1
        from service.runtime.check import check_artifact  # onnxruntime takes long to import

        digest = check_artifact(path).digest
        notice, code = schema_notice(path), 0
    except ArtifactError as failure:
        error, code = str(failure), code or 2
    if as_json:
        report = {"artifact": str(path), "holds": error is None, "digest": digest, "error": error}
        click.echo(json.dumps({**report, "notice": notice}))
    elif error is None:
        click.echo(f"{path}: hashes match and golden rows are reproduced; digest {digest}")
        for line in notice:
            click.echo(line)
    else:
        click.echo(f"Error: {error}", err=True)
    sys.exit(code)
