"""`python -m export verify` proves what was published, and names what was edited.

tests/mutants holds all the edits that it must reject.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export import ProofError
from export.__main__ import main
from export.proof.prove import Proof
from export.verification import verify
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from tests.mutants import MUTANTS
from tests.mutants.documents import golden
from tests.mutants.networks import subject_of
from tests.trained import Trained

MESSAGES = {
    "onnx: one weight off by one ULP": "model.onnx: net.linear1.weight: 1 of 64 values differ",
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
    "golden.json: labels as decimals": "golden.json: encoding does not match",
    "manifest: classes permuted": "README.md: expected the bytes derived from manifest.json",
    "manifest: a feature missing": "manifest.json: count of features: expected 4, found 3",
    "manifest: task exchanged": "manifest.json: task: expected classification, found regression",
    "manifest: no proof": "manifest.json: proof: cannot be read",
    "manifest: a failed comparison": "proof: a comparison failed: real rows",
    "proof.png: no picture": "proof.png: not a complete PNG",
    "torchscript: ReLU is Abs": "model.torchscript.pt: "
    "archive/code/__torch__/torch/nn/functional.py is not what torch",
    "torchscript: bytes before the archive": "expected the zip layout that export writes",
    "torchscript: no archive": "model.torchscript.pt: not a zip archive",
}


@pytest.mark.parametrize("mutant", MESSAGES)
def test_what_was_edited_is_named(flowers: Trained, tmp_path: Path, mutant: str) -> None:
    """The message states the file, and what was expected and found."""
    subject = MUTANTS[mutant](subject_of(flowers.run, flowers.artifact))
    with pytest.raises((ProofError, ArtifactError), match=re.escape(MESSAGES[mutant])):
        verify(subject.write(tmp_path / "1"))


def test_edited_triton_file_is_named(artifact: Path) -> None:
    """config.pbtxt, beside the newest version, must follow from its manifest."""
    (artifact.parent / "config.pbtxt").write_text("")
    with pytest.raises(ProofError, match=r"config\.pbtxt: expected the bytes derived from"):
        verify(artifact)


def test_golden_of_another_machine_is_accepted(flowers: Trained, tmp_path: Path) -> None:
    """float64 sums in another order differ in the last digits; that is no edit."""

    def move(document: Any) -> None:
        logits = document["outputs"]["logits"]
        logits["reference"][0][0] += logits["bound"][0][0] * 2.0**-21
        logits["bound"][0][0] *= 1 + 2.0**-21

    verify(golden(move)(subject_of(flowers.run, flowers.artifact)).write(tmp_path / "1"))


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_verify_proves_what_was_published(which: str, request: pytest.FixtureRequest) -> None:
    """Exit code 0, and one document with the digest and the proof, equal but for its rows."""
    made: Trained = request.getfixturevalue(which)
    ended = CliRunner().invoke(main, ["verify", "--json", str(made.artifact)])
    document = json.loads(ended.stdout)
    published = Predictor(made.artifact)
    assert 0 == ended.exit_code
    assert {"artifact", "proved", "error", "digest", "proof"} == document.keys()
    assert (True, None) == (document["proved"], document["error"])
    assert published.digest == document["digest"]
    proof = document["proof"]
    assert published.manifest.proof.keys() == proof.keys()
    assert published.manifest.proof["host"] == proof["host"]
    assert published.manifest.proof["runtimes"].keys() == proof["runtimes"].keys()
    assert proof == Proof.from_members(proof).to_members()


def test_verify_prints_a_table(flowers: Trained) -> None:
    """The newest version of a name is proved; every runtime is in the table."""
    ended = CliRunner().invoke(main, ["verify", str(flowers.artifact.parent)])
    assert (0, "") == (ended.exit_code, ended.stderr)
    digest = Predictor(flowers.artifact).digest
    last = f"proved {flowers.artifact} on its golden rows; digest {digest}\n"
    assert ended.stdout.endswith(last)
    for runtime in ("onnxruntime", "disable_all", "basic", "extended", "torchscript", "eager"):
        assert runtime in ended.stdout


def test_verify_of_a_failed_proof(artifact: Path) -> None:
    """One line, exit code 1; with --json one document, and the same code."""
    (artifact / manifest.CARD).write_bytes(b"")
    ended = CliRunner().invoke(main, ["verify", str(artifact)])
    assert 1 == ended.exit_code
    assert ended.stderr.startswith(f"Error: not proved: {artifact}: README.md: expected SHA-256 ")
    ended = CliRunner().invoke(main, ["verify", "--json", str(artifact)])
    document = json.loads(ended.stdout)
    assert (1, "") == (ended.exit_code, ended.stderr)
    assert (False, None) == (document["proved"], document["proof"])
    assert document["error"].startswith(f"{artifact}: README.md: expected SHA-256 ")


@pytest.mark.parametrize("path", ["nope", "."])
def test_verify_of_nothing(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No artifact there: exit code 2."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["verify", path])
    assert 2 == ended.exit_code
    assert "expected artifacts/<name> or artifacts/<name>/<version>" in ended.stderr
