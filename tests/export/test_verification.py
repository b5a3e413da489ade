"""`python -m export verify` proves what was published, and names what was edited.

tests/mutants holds all the edits that it must reject.
"""

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


def test_verify_proves_what_was_published(houses: Trained) -> None:
    """Exit code 0, and one document with the digest and the proof, equal but for its rows."""
    ended = CliRunner().invoke(main, ["verify", "--json", str(houses.artifact)])
    document = json.loads(ended.stdout)
    published = Predictor(houses.artifact)
    assert 0 == ended.exit_code
    proof = document.pop("proof")
    head = {"artifact": str(houses.artifact), "proved": True, "error": None}
    assert head | {"digest": published.digest} == document
    assert published.manifest.proof.keys() == proof.keys()
    assert published.manifest.proof["host"] == proof["host"]
    assert published.manifest.proof["runtimes"].keys() == proof["runtimes"].keys()


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
    line, json_document = (
        CliRunner().invoke(main, ["verify", *options, str(artifact)])
        for options in ([], ["--json"])
    )
    assert (1, 1, "") == (line.exit_code, json_document.exit_code, json_document.stderr)
    document = json.loads(json_document.stdout)
    assert (False, None) == (document["proved"], document["proof"])
    assert document["error"].startswith(f"{artifact}: README.md: expected SHA-256 ")
    assert f"Error: not proved: {document['error']}\n" == line.stderr


def test_verify_of_nothing(tmp_path: Path) -> None:
    """A folder without an artifact ends in one line and exit code 2."""
    ended = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert 2 == ended.exit_code
    assert "expected artifacts/<name> or artifacts/<name>/<version>" in ended.stderr
