"""service.runtime.predictor: what is loaded is checked, and answers what the network answers."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.proof.bound import reference
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from service.runtime.session import MAX_ROWS_PER_RUN
from tests.stored import StoredArtifact


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_answers_are_the_network_s(which: str, request: pytest.FixtureRequest) -> None:
    """Real rows: every output lies within the bound of the float64 reference."""
    made: StoredArtifact = request.getfixturevalue(which)
    predictor = Predictor(made.artifact)
    expected = reference(made.weights, made.rows)
    answers = predictor.predict(made.rows)
    assert list(manifest.OUTPUTS[predictor.manifest.task]) == list(answers)
    for name, values in expected.values.items():
        assert (np.abs(answers[name] - values) <= expected.bounds[name]).all(), name


def test_newest_version_is_followed_at_load(flowers: StoredArtifact) -> None:
    """artifacts/<name> means its newest version."""
    assert flowers.artifact == Predictor(flowers.artifact.parent).path


def test_unexpected_digest(flowers: StoredArtifact) -> None:
    """An operator can pin what may be served."""
    digest = Predictor(flowers.artifact).digest
    Predictor(flowers.artifact, expect_digest=digest)
    with pytest.raises(ArtifactError, match=f"expected digest {'0' * 64}, found {digest}"):
        Predictor(flowers.artifact, expect_digest="0" * 64)


def edit_onnx(path: Path, edit: Callable[[onnx.ModelProto], object]) -> None:
    """Change the model of an artifact in place."""
    model = onnx.load_model_from_string((path / manifest.MODEL).read_bytes())
    edit(model)
    (path / manifest.MODEL).write_bytes(model.SerializeToString())


def add_one_percent(model: onnx.ModelProto) -> None:
    """Scale the first layer."""
    tensor = next(t for t in model.graph.initializer if t.name == "net.linear1.weight")
    tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * np.float32(1.01)).tobytes()


def rename_output(model: onnx.ModelProto) -> None:
    """Call the label something else."""
    model.graph.node[-1].output[0] = model.graph.output[-1].name = "class"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            add_one_percent,
            r"golden\.json: row \d+: expected logits .*this is not the trained network",
        ),
        (rename_output, r"model\.onnx: expected outputs .*'label'.* found .*'class'"),
        (lambda model: model.graph.node.pop(), r"model\.onnx: ONNX Runtime refuses it"),
    ],
)
def test_re_packed_model_is_refused(
    artifact: Path,
    repack: Callable[[Path], None],
    edit: Callable[[onnx.ModelProto], object],
    message: str,
) -> None:
    """Where every hash is consistent, the golden rows and the signature still tell."""
    edit_onnx(artifact, edit)
    repack(artifact)
    with pytest.raises(ArtifactError, match=message):
        Predictor(artifact)


def test_nan_in_an_answer_is_refused(artifact: Path, repack: Callable[[Path], None]) -> None:
    """NaN is within no bound."""

    def spoil(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "net.linear2.bias")
        tensor.raw_data = np.full(3, np.nan, np.float32).tobytes()

    edit_onnx(artifact, spoil)
    repack(artifact)
    with pytest.raises(ArtifactError, match=re.escape("found [NaN, NaN, NaN]")):
        Predictor(artifact)


def test_wrong_label_is_refused(artifact: Path, repack: Callable[[Path], None]) -> None:
    """A golden label that rounding cannot explain stops the load."""
    path = artifact / manifest.GOLDEN
    golden = json.loads(path.read_bytes())
    golden["outputs"]["label"]["accepted"] = [
        [(row[0] + 1) % 3] for row in golden["outputs"]["label"]["accepted"]
    ]
    path.write_text(json.dumps(golden))
    repack(artifact)
    with pytest.raises(ArtifactError, match=r"golden\.json: row 0: expected label"):
        Predictor(artifact)


@pytest.mark.parametrize(
    "edit",
    [
        lambda golden: golden["outputs"].clear(),
        lambda golden: golden["outputs"].pop("label"),
        lambda golden: golden["outputs"]["logits"].update(bound=1e9),
        lambda golden: golden["outputs"]["logits"].update(
            bound=[[float("inf")] * 3] * len(golden["input"])
        ),
        lambda golden: golden["input"].clear(),
        lambda golden: golden.update(input=[[1, 2, 3]]),
        lambda golden: golden.update(input=[]),
        lambda golden: golden.pop("input"),
        lambda golden: golden["outputs"]["label"].update(accepted=[]),
    ],
)
def test_golden_that_proves_nothing_is_refused(
    artifact: Path, repack: Callable[[Path], None], edit: Callable[[Any], object]
) -> None:
    """Missing rows, outputs or bounds, and bounds that bound nothing, are no self-test."""
    path = artifact / manifest.GOLDEN
    golden = json.loads(path.read_bytes())
    edit(golden)
    path.write_text(json.dumps(golden))
    repack(artifact)
    with pytest.raises(ArtifactError, match=r"golden\.json: not readable"):
        Predictor(artifact)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000])
def test_golden_that_is_no_golden_is_refused(
    artifact: Path, repack: Callable[[Path], None], content: bytes
) -> None:
    """Whatever stands in the file, the reason is one line."""
    (artifact / manifest.GOLDEN).write_bytes(content)
    repack(artifact)
    with pytest.raises(ArtifactError, match=r"golden\.json: not readable"):
        Predictor(artifact)


def test_many_rows_are_answered_like_few(flowers: StoredArtifact) -> None:
    """A batch larger than the slice in which it is evaluated has the answers of its rows, in their order."""
    predictor = Predictor(flowers.artifact)
    rows = np.random.default_rng(0).normal(size=(2 * MAX_ROWS_PER_RUN + 7, 4)).astype(np.float32)
    answers = predictor.predict(rows)
    expected = reference(flowers.weights, rows)
    assert (
        np.abs(answers["logits"] - expected.values["logits"]) <= expected.bounds["logits"]
    ).all()
    assert (len(rows),) == answers["label"].shape


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    """Whoever imports the predictor alone, in a clean environment, has the switch set in time."""
    code = "import service.runtime.predictor, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    found = subprocess.run(
        [sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True
    )
    assert "1" == found.stdout.strip()
