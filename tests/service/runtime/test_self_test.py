"""Tests of service.runtime.self_test: only the trained network passes."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.artifact import manifest
from service.artifact.manifest import ArtifactError, Manifest
from service.runtime.self_test import check_golden_rows, check_signature
from service.runtime.session import Session
from tests.stored import FLOWERS, HOUSES

MODEL = (FLOWERS.artifact / manifest.MODEL).read_bytes()
GOLDEN = (FLOWERS.artifact / manifest.GOLDEN).read_bytes()
INFINITE = [[float("inf")] * 3] * len(json.loads(GOLDEN)["input"])


def test_signature_of_another_model() -> None:
    """A model with a different number of input columns or a different output name is rejected."""
    flowers = Manifest.from_json((FLOWERS.artifact / manifest.MANIFEST).read_bytes())
    with pytest.raises(ArtifactError, match=r"^model\.onnx: expected inputs .*4.*, found .*3"):
        check_signature(Session((HOUSES.artifact / manifest.MODEL).read_bytes()), flowers)
    with pytest.raises(ArtifactError, match=r"^model\.onnx: expected outputs .*'label'.*'class'"):
        check_signature(Session(MODEL.replace(b"label", b"class")), flowers)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("net.linear1.weight", lambda weight: weight * 1.01, r"logits \[-0\.9230.*\[-0\.9237"),
        ("net.linear2.bias", lambda bias: bias * np.nan, r"logits \[.*, found \[NaN, NaN, NaN\]"),
    ],
)
def test_other_weights(name: str, change: Callable[[np.ndarray], np.ndarray], problem: str) -> None:
    """Weights that differ by one percent or are NaN are rejected."""
    weight = FLOWERS.weights[name]
    model = MODEL.replace(weight.tobytes(), change(weight).astype(np.float32).tobytes())
    with pytest.raises(ArtifactError, match=rf"^golden\.json: row 0: expected {problem}"):
        check_golden_rows(Session(model), GOLDEN)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda g: g["outputs"].pop("label"), "ValueError('expected the outputs logits, prob"),
        (lambda g: g["outputs"]["logits"].update(bound=1e9), "TypeError"),
        (lambda g: g["outputs"]["logits"].update(bound=INFINITE), "ValueError('Infinity"),
        (lambda g: g["outputs"]["logits"].update(bound=[[1.0]]), "ValueError('expected ref"),
        (lambda g: g["outputs"]["label"].update(accepted=[]), "ValueError"),
        (lambda g: g["input"].clear(), "ValueError('expected one or more rows of 4"),
        (lambda g: g.update(input=[[1.0, 2.0, 3.0]]), "ValueError('expected one or more"),
        (lambda g: g["input"][0].__setitem__(0, 0.1), "ValueError('expected one or more"),
        (lambda g: g["input"][0].__setitem__(0, 1), "ValueError('expected rows of numbers"),
        (lambda g: g.update(more=1), "ValueError('expected only format_version 1, input and"),
    ],
)
def test_invalid_golden_rows(change: Callable[[Any], object], problem: str) -> None:
    """Missing rows, outputs or bounds, and numbers that are not float32, are rejected."""
    change(document := json.loads(GOLDEN))
    with pytest.raises(ArtifactError, match=rf"^golden\.json: not readable: {re.escape(problem)}"):
        check_golden_rows(Session(MODEL), json.dumps(document).encode())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"accepted": [[1]', b'"accepted": [[9]', "row 0: expected label [9], found"),
        (b'"input"', b'"input": [], "input"', 'not readable: ValueError("duplicate'),
        (b"[[", b"[[1e999, ", "not readable: ValueError('1e999 is too large"),
        (GOLDEN, b"[]", "not readable"),
    ],
)
def test_damaged_bytes_of_golden_rows(old: bytes, new: bytes, problem: str) -> None:
    """A wrong label, and JSON that parsers could read differently, are rejected."""
    with pytest.raises(ArtifactError, match=rf"^golden\.json: {re.escape(problem)}"):
        check_golden_rows(Session(MODEL), GOLDEN.replace(old, new, 1))
