"""Tests of the command `check` with valid artifacts."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from service.__main__ import main
from service.runtime.predictor import Predictor
from tests.stored import StoredArtifact


def test_check(flowers: StoredArtifact) -> None:
    """The command prints the digest as a line or as JSON, and exits with code 0."""
    digest, path = Predictor(flowers.artifact).digest, str(flowers.artifact)
    result = CliRunner().invoke(main, ["check", path])
    assert (0, "") == (result.exit_code, result.stderr)
    assert result.stdout.endswith(f"digest {digest}\n")
    result = CliRunner().invoke(main, ["check", "--json", path])
    report = {"artifact": path, "holds": True, "digest": digest, "error": None, "notice": []}
    assert (0, report) == (result.exit_code, json.loads(result.stdout))


def test_other_schema_is_reported(artifact: Path, add_version: Callable[..., Path]) -> None:
    """The command says that running servers refuse the version; the version is valid."""
    add_version(2, targets=["kind"])
    notice = [
        "the schema of version 2 differs from that of version 1:",
        "  targets: expected 'species', found 'kind'",
        "running servers refuse version 2, unless started with --allow-schema-change",
    ]
    result = CliRunner().invoke(main, ["check", str(artifact.parent)])
    assert (0, notice) == (result.exit_code, result.stdout.splitlines()[1:])
    result = CliRunner().invoke(main, ["check", "--json", str(artifact.parent)])
    assert (0, notice) == (result.exit_code, json.loads(result.stdout)["notice"])


def test_version_in_the_folder_of_another(artifact: Path) -> None:
    """A version in the folder of another version fails the check, and serve skips it."""
    artifact.rename(artifact.parent / "2")
    result = CliRunner().invoke(main, ["check", str(artifact.parent)])
    assert 1 == result.exit_code
    problem = "manifest.json: expected version 2, the name of the folder, found 1"
    assert f"Error: {artifact.parent / '2'}: {problem}\n" == result.stderr
