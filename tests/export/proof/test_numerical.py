"""Tests of export.proof: the proof fails if an output error is too large for rounding."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from export import ProofError
from export.proof.bound import Float32Array, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import BATCH_SIZES, Case, hard_inputs
from export.proof.numerical import Comparison, check_nonfinite_rows, rows_changed_by_batch, sweep
from export.proof.prove import Proof, prove
from export.proof.runtimes import (
    FLOAT32_PROVIDER_OPTIONS,
    SERVING_RUNTIME,
    Outputs,
    Runtime,
    is_execution_provider,
    open_runtimes,
)
from export.to_torchscript import load_torchscript
from service.artifact import manifest
from service.artifact.manifest import Manifest
from tests.trained import Trained


def manifest_of(trained: Trained) -> Manifest:
    """Return the manifest of an artifact."""
    return Manifest.from_json((trained.artifact / manifest.MANIFEST).read_bytes())


def models(trained: Trained) -> tuple[bytes, bytes]:
    """Return the bytes of model.onnx and model.torchscript.pt."""
    model, script = trained.artifact / manifest.MODEL, trained.artifact / manifest.TORCHSCRIPT
    return model.read_bytes(), script.read_bytes()


def prove_again(trained: Trained, rows: Float32Array) -> Proof:
    """Return a new proof of the published models on these rows."""
    return prove(models(trained), trained.run.weights, manifest_of(trained).features, rows)


def compare(case: Case, runtime: Runtime, weights: Weights) -> list[Comparison]:
    """Return the comparisons of one case with the outputs of one runtime, named x."""
    return list(sweep([case], {"x": runtime}, weights))


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_healthy_artifact_is_proved(which: str, request: pytest.FixtureRequest) -> None:
    """The published proof has no warnings and covers every runtime, output and batch size."""
    trained: Trained = request.getfixturevalue(which)
    proof = Proof.from_members(manifest_of(trained).proof)
    levels = {f"onnxruntime {level}" for level in ("disable_all", "basic", "extended", "layout")}
    assert {"onnxruntime", "torchscript", "eager"} | levels == set(proof.runtimes)
    assert (SERVING_RUNTIME, {}) == (next(iter(proof.runtimes)), proof.left_out)
    for worst in proof.runtimes.values():
        assert 0 < worst.max_error_over_bound <= worst.max_error_over_probable_bound <= 1
        assert 0 < worst.max_ulps
        assert len(trained.run.rows) == worst.batch_rows >= worst.batch_rows_changed
    assert 1 == proof.rows_out_of_range  # the row of the largest finite float32 numbers
    listed = [name for name, worst in proof.runtimes.items() if worst.every_figure_as is None]
    outputs = manifest.OUTPUTS[manifest_of(trained).task]
    compared = {(c.runtime, c.output) for c in proof.comparisons}
    assert {(runtime, output) for runtime in listed for output in outputs} == compared
    rows = {c.case: (c.rows_out_of_range, c.rows) for c in proof.comparisons}
    assert {f"batch of {size}" for size in BATCH_SIZES} <= rows.keys()
    assert ((1, 1), (0, 0)) == (rows["largest finite"], rows["batch of 0"])
    assert [] == proof.warnings
    versions = {"python", "numpy", "onnx", "onnxruntime", "torch"}
    assert {"cpu", "machine", "system"} | versions == set(proof.host)


def test_hard_inputs_match_their_names(houses: Trained) -> None:
    """Each named case holds the rows that its name describes, and all values are finite."""
    features = manifest_of(houses).features
    cases = {case.name: case.rows for case in hard_inputs(features, houses.run.rows)}
    assert np.array_equal(np.concatenate([np.eye(3), -np.eye(3)]), cases["one-hot"])
    assert [[np.float32(f.min) for f in features], [np.float32(f.max) for f in features]] == [
        list(row) for row in cases["training minimum and maximum"]
    ]
    assert (np.abs(cases["subnormals"]) < np.finfo(np.float32).tiny).all()
    assert np.array_equal(houses.run.rows, cases["real rows"])
    assert all(np.isfinite(rows).all() for rows in cases.values())


def ideal_outputs(case: Case, weights: Weights) -> dict[str, np.ndarray]:
    """Return the outputs of an ideal runtime: the reference, rounded to float32."""
    values = reference(weights, case.rows).values
    label = values["logits"].argmax(axis=1)
    return {**{name: v.astype(np.float32) for name, v in values.items()}, "label": label}


@pytest.mark.parametrize(
    ("output", "amount"),
    [
        ("logits", 1e-2),
        ("logits", np.nan),
        ("logits", np.inf),
        ("probabilities", 1e-3),
        ("label", 1),
        ("label", 7),
        ("label", -9),
    ],
)
def test_one_wrong_element_fails(flowers: Trained, output: str, amount: float) -> None:
    """An error in one element fails only that output, and `worst` is the index of the element."""
    case = Case("real rows", flowers.run.rows)
    outputs = ideal_outputs(case, flowers.run.weights)
    outputs[output].flat[5] += amount
    comparisons = compare(case, lambda rows: outputs, flowers.run.weights)
    assert [output] == [c.output for c in comparisons if not c.passed]
    [worst] = [c.worst for c in comparisons if not c.passed]
    assert ((5,) if output == "label" else (1, 2)) == worst


def test_wrong_shape_is_rejected(flowers: Trained) -> None:
    """An output of the wrong shape raises ProofError."""
    case = Case("real rows", flowers.run.rows)
    outputs = ideal_outputs(case, flowers.run.weights)
    outputs["logits"] = outputs["logits"][:1]
    message = r"x, real rows: shape of logits: expected \(\d+, 3\), found \(1, 3\)"
    with pytest.raises(ProofError, match=message):
        compare(case, lambda rows: outputs, flowers.run.weights)


def test_nonfinite_rows(flowers: Trained) -> None:
    """A NaN row must not change other rows; if it gives numbers, a provider gets only a warning."""
    rows = flowers.run.rows
    outputs: dict[str, Callable[[Float32Array], Outputs]] = {
        "spread": lambda x: {"logits": np.full((3, 3), x.sum())},
        "swallow": lambda x: {"logits": np.zeros((3, 3))},
    }
    provider = "onnxruntime OpenVINO"
    for name in ("onnxruntime", provider):
        with pytest.raises(ProofError, match="expected the other rows unchanged"):
            check_nonfinite_rows(name, outputs["spread"], rows)
    with pytest.raises(ProofError, match="expected only NaN in its logits"):
        check_nonfinite_rows("onnxruntime", outputs["swallow"], rows)
    [warning] = check_nonfinite_rows(provider, outputs["swallow"], rows)
    problem = "NaN in a row: expected only NaN in its logits, found [0.0, 0.0, 0.0]"
    assert f"{provider}: {problem}" == warning


def test_only_other_providers_may_swallow_nan() -> None:
    """Only runtimes of another execution provider may return numbers for a NaN row."""
    runtimes = ("onnxruntime", "onnxruntime basic", "torchscript", "eager")
    assert not any(is_execution_provider(name) for name in runtimes)
    assert is_execution_provider("onnxruntime OpenVINO")


def test_sweep_mostly_out_of_range_fails(houses: Trained) -> None:
    """The proof fails if more than 5% of the rows may overflow, as these are not compared."""
    huge = np.full((200, 3), 3e38, np.float32)
    with pytest.raises(ProofError, match="expected at most 5% of rows out of float32's range"):
        prove_again(houses, huge)


def test_few_rows_suffice(houses: Trained) -> None:
    """A proof with one real row passes; the row that is chosen to overflow is only counted."""
    proof = prove_again(houses, houses.run.rows[:1])
    assert (15, 1) == (proof.rows, proof.rows_out_of_range)


def test_figures_of_known_outputs(flowers: Trained) -> None:
    """A logit error of two ULPs and the label of a nearly equal logit are reported exactly."""
    weights = {name: np.zeros_like(values) for name, values in flowers.run.weights.items()}
    weights["net.linear2.bias"] = np.array([1, 1 + 2.0**-23, 0], np.float32)
    case = Case("one row", np.zeros((1, 4), np.float32))
    outputs = {**ideal_outputs(case, weights), "label": np.array([0])}
    outputs["logits"][0, 0] += np.float32(2.0**-22)
    logits, probabilities, label = compare(case, lambda rows: outputs, weights)
    assert (True, (0, 0)) == (logits.passed, logits.worst)
    assert (2.0**-22, 2.0) == (logits.max_error, logits.max_ulps)
    assert 0.2 < logits.max_error_over_bound < logits.max_error_over_probable_bound * 1.1 < 0.5
    assert (True, 1, 2.0**-23) == (label.passed, label.label_disagreements, label.largest_margin)
    assert probabilities.passed


def test_rows_changed_by_their_batch_are_counted() -> None:
    """A row counts if its output bits differ between a batch and the row alone."""
    rows = np.ones((5, 2), np.float32)
    assert 0 == rows_changed_by_batch(lambda x: {"y": x * 2}, rows)
    assert 5 == rows_changed_by_batch(lambda x: {"y": x * np.float32(len(x))}, rows)

    def negative_zero(x: Float32Array) -> Outputs:
        return {"y": np.zeros_like(x) * np.float32(1 if len(x) == 1 else -1)}

    assert 5 == rows_changed_by_batch(negative_zero, rows)  # 0 == -0, but their bits differ


def test_providers_are_left_out_with_a_reason(
    flowers: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that does not start or may lack IEEE float32 is not replaced by the CPU."""
    providers = ["CUDAExecutionProvider", "QNNExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    module = load_torchscript(models(flowers)[1])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        runtimes, left_out = open_runtimes(models(flowers)[0], module, flowers.run.weights)
    assert not [name for name in runtimes if "CUDA" in name or "QNN" in name]
    assert {
        "CUDAExecutionProvider": "CUDAExecutionProvider does not start on this machine",
        "QNNExecutionProvider": "no known option selects IEEE float32 arithmetic",
    } == left_out
    assert {"use_tf32": "0"} == FLOAT32_PROVIDER_OPTIONS["CUDAExecutionProvider"]


def test_errors_above_the_probable_bound_are_a_warning(
    flowers: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error above the probable bound but within the bound passes with a warning."""
    monkeypatch.setattr("export.proof.numerical.probable_gamma", lambda n: 1e-14)
    proof = prove_again(flowers, flowers.run.rows)
    assert proof.runtimes[SERVING_RUNTIME].max_error_over_probable_bound > 1
    assert any(text.startswith("onnxruntime, real rows: logits: ") for text in proof.warnings)
