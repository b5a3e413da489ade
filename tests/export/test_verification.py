"""Tests of `python -m export verify` and its errors; tests/mutants tests what it rejects."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from export import ProofError
from export.__main__ import main
from export.verification import verify
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from tests.mutants import MUTANTS
from tests.mutants.networks import subject_of
from tests.trained import Trained

MESSAGES = {
    "weights: shift from another run": "manifest.json: mean and std of 'petal, length' do not "
    "match shift",
    "weights: a tensor missing": "weights.safetensors: tensors: expected",
    "weights: a bias of two dimensions": "shape of net.linear1.bias: expected (16,), found (",
    "weights: a bias of another length": "weights.safetensors: shape of net.linear2.weight: "
    "expected (99, 16), found (3, 16)",
    "weights: a weight is NaN": "net.linear2.weight: expected finite numbers, found NaN",
    "golden: a reference moved within its bound": "golden.json: logits: reference does not "
    "match weights.safetensors",
    "golden: an output missing": "golden.json: cannot be read: KeyError('logits')",
    "golden.json: labels as floats": "golden.json: encoding does not match",
    "manifest: classes permuted": "README.md: expected the bytes derived from manifest.json",
    "manifest: a feature missing": "manifest.json: count of features: expected 4, found 3",
    "manifest: task exchanged": "manifest.json: task: expected classification, found regression",
    "manifest: no proof": "manifest.json: proof: cannot be read",
    "manifest: a failed comparison": "proof: a comparison failed: real rows",
    "proof.png: truncated to half": "proof.png: not a complete PNG",
    "torchscript: ReLU is Abs": "model.torchscript.pt: "
    "archive/code/__torch__/torch/nn/functional.py is not what torch",
    "torchscript: bytes before the archive": "expected the zip layout that export writes",
    "torchscript: no archive": "model.torchscript.pt: not a zip archive",
}


@pytest.mark.parametrize("mutant", MESSAGES)
def test_error_names_the_edit(flowers: Trained, tmp_path: Path, mutant: str) -> None:
    """The error names the edited file or tensor and what is wrong with it."""
    subject = MUTANTS[mutant](subject_of(flowers.run, flowers.artifact))
    with pytest.raises((ProofError, ArtifactError), match=re.escape(MESSAGES[mutant])):
        verify(subject.write(tmp_path / "1"))


def test_edited_triton_file_is_named(artifact: Path) -> None:
    """An edited config.pbtxt in the folder of the versions is rejected by name."""
    (artifact.parent / "config.pbtxt").write_text("")
    with pytest.raises(ProofError, match=r"config\.pbtxt: expected the bytes derived from"):
        verify(artifact)


def test_verify_proves_a_published_artifact(houses: Trained) -> None:
    """Verify exits with 0 and prints the artifact's digest and its proof as one document."""
    result = CliRunner().invoke(main, ["verify", "--json", str(houses.artifact)])
    document = json.loads(result.stdout)
    published = Predictor(houses.artifact)
    assert 0 == result.exit_code
    proof = document.pop("proof")
    head = {"artifact": str(houses.artifact), "proved": True, "error": None}
    assert head | {"digest": published.digest} == document
    assert published.manifest.proof.keys() == proof.keys()
    assert published.manifest.proof["host"] == proof["host"]
    assert published.manifest.proof["runtimes"].keys() == proof["runtimes"].keys()


def test_verify_prints_a_table(flowers: Trained) -> None:
    """Given a name, verify proves its newest version and prints a row for every runtime."""
    result = CliRunner().invoke(main, ["verify", str(flowers.artifact.parent)])
    assert (0, "") == (result.exit_code, result.stderr)
    digest = Predictor(flowers.artifact).digest
    last = f"proved {flowers.artifact} on its golden rows; digest {digest}\n"
    assert result.stdout.endswith(last)
    for runtime in ("onnxruntime", "disable_all", "basic", "extended", "torchscript", "eager"):
        assert runtime in result.stdout


def test_verify_of_a_failed_proof(artifact: Path) -> None:
    """A failed proof exits with 1 and prints one line, or one document with --json."""
    (artifact / manifest.CARD).write_bytes(b"")
    line, json_document = (
        CliRunner().invoke(main, ["verify", *options, str(artifact)])
        for options in ([], ["--json"])
    )
    assert (1, 1, "") == (line.exit_code, json_document.exit_code, json_document.stderr)
    document = json.loads(json_document.stdout)
    assert (False, None) == (document["proved"], document["proof"])
    assert document["error"].startswith(f"{artifact}: README.md: expected SHA-256 ")
    assert f"Error: not proved: {document['error']}\n" == line.stderr


def test_verify_of_a_missing_artifact(tmp_path: Path) -> None:
    """A folder without an artifact gives a one-line error and exit code 2."""
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert 2 == result.exit_code
    assert "expected artifacts/<name> or artifacts/<name>/<version>" in result.stderr
