"""Tests of service.runtime.predictor: loading checks each file that predictions need."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.stored import StoredArtifact


def test_predictor_of_an_artifact(flowers: StoredArtifact) -> None:
    """A predictor loads the newest version; its attributes and outputs match the files."""
    predictor = Predictor(flowers.artifact.parent)
    assert (flowers.artifact, "flowers") == (predictor.path, predictor.manifest.name)
    assert (flowers.artifact / manifest.EXAMPLE).read_bytes() == predictor.example
    assert (flowers.artifact / manifest.WEIGHTS).stat().st_size == predictor.weight_bytes
    session = Session((flowers.artifact / manifest.MODEL).read_bytes())
    expected, outputs = session.run(flowers.rows), predictor.predict(flowers.rows)
    assert list(expected) == list(outputs)
    assert all(np.array_equal(expected[name], outputs[name]) for name in expected)


def test_digest_can_be_required(flowers: StoredArtifact) -> None:
    """An artifact whose digest differs from the required one is not loaded."""
    digest = Predictor(flowers.artifact).digest
    assert digest == Predictor(flowers.artifact, expect_digest=digest).digest
    with pytest.raises(ArtifactError, match=f"expected digest {'0' * 64}, found {digest}"):
        Predictor(flowers.artifact, expect_digest="0" * 64)


def test_hashes_are_checked_before_the_model_is_parsed(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime is not called for a file whose hash does not match."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    (artifact / manifest.MODEL).write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.onnx: expected SHA-256"):
        Predictor(artifact)


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (manifest.MANIFEST, b'"std": ', b'"std": NaN, "s": ', r"manifest\.json: .*NaN is not"),
        (manifest.MODEL, b"label", b"class", r"model\.onnx: expected outputs"),
        (manifest.GOLDEN, b'"bound": [[', b'"bound": [[-', r"golden\.json: row 0: expected"),
    ],
)
def test_consistent_hashes_are_not_enough(
    name: str, old: bytes, new: bytes, problem: str, artifact: Path, repack: Callable[[Path], None]
) -> None:
    """The manifest, the signature and the golden rows are checked in addition to the hashes."""
    content = (artifact / name).read_bytes()
    assert old in content
    (artifact / name).write_bytes(content.replace(old, new))
    repack(artifact)
    with pytest.raises(ArtifactError, match=problem):
        Predictor(artifact)
