"""Test of the command `check` with a valid artifact."""

import json

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
    report = {"artifact": path, "holds": True, "digest": digest, "error": None}
    assert (0, report) == (result.exit_code, json.loads(result.stdout))
