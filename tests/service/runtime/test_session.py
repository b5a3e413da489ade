"""Tests of service.runtime.session: outputs, rejected models, and telemetry."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from export.proof.bound import reference
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.session import MAX_BLAS_VALUES, MAX_ROWS_PER_RUN, Session, all_finite
from tests.serving import ROOT
from tests.stored import FLOWERS, HOUSES, StoredArtifact


@pytest.mark.parametrize("stored", [FLOWERS, HOUSES])
@pytest.mark.parametrize("count", [0, 1, 100, MAX_ROWS_PER_RUN, 2 * MAX_ROWS_PER_RUN + 7])
def test_outputs_are_those_of_the_network(stored: StoredArtifact, count: int) -> None:
    """For any number of rows, every output is within its bound of the float64 reference."""
    session = Session((stored.artifact / manifest.MODEL).read_bytes())
    rows = np.resize(stored.rows, (count, stored.rows.shape[1]))
    outputs, expected = session.run(rows), reference(stored.weights, rows)
    assert list(session.outputs) == list(outputs)
    for name, values in expected.values.items():
        assert (np.abs(outputs[name] - values) <= expected.bounds[name]).all(), name
    if "label" in outputs:
        assert np.array_equal(expected.values["logits"].argmax(axis=1), outputs["label"])


@pytest.mark.parametrize(
    ("forbidden", "problem"),
    [(True, "model contains metadata_props"), (False, "ONNX Runtime rejects it: ")],
)
def test_model_is_scanned_before_onnx_runtime_parses_it(
    forbidden: bool, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan rejects forbidden fields; ONNX Runtime rejects an inconsistent graph."""
    model = (FLOWERS.artifact / manifest.MODEL).read_bytes().replace(b"Relu", b"Gemm")
    if forbidden:
        monkeypatch.setattr(onnxruntime, "InferenceSession", None)
        model += b"\x72\x00"
    with pytest.raises(ArtifactError, match=rf"^model\.onnx: {problem}"):
        Session(model)


@pytest.mark.parametrize("module", ["service.runtime.session", "service.runtime.predictor"])
def test_telemetry_is_off_when_onnxruntime_is_imported(module: str) -> None:
    """The environment variable is set before onnxruntime, which reads it, is imported."""
    code = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Finder())
import {module}
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert "1\n" == result.stdout


@pytest.mark.parametrize("size", [1, MAX_BLAS_VALUES, MAX_BLAS_VALUES + 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_finite(size: int, dtype: type[np.floating]) -> None:
    """One NaN or infinity is detected; values whose squares overflow count as finite."""
    values = np.full(size, np.finfo(dtype).max, dtype)
    assert all_finite(values)
    for value in (np.nan, np.inf, -np.inf):
        values[-1] = value
        assert not all_finite(values)
