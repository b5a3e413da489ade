"""service.runtime.self_test: a model that is not the trained network does not pass."""

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
from tests.stored import FLOWERS, HOUSES, StoredArtifact

MODEL = (FLOWERS.artifact / manifest.MODEL).read_bytes()
GOLDEN = (FLOWERS.artifact / manifest.GOLDEN).read_bytes()
INFINITE = [[float("inf")] * 3] * len(json.loads(GOLDEN)["input"])


def read_manifest(stored: StoredArtifact) -> Manifest:
    """Return the manifest of a stored artifact."""
    return Manifest.from_json((stored.artifact / manifest.MANIFEST).read_bytes())


def replace_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """Return the model with the values of one initializer changed."""
    weight = FLOWERS.weights[name]
    return MODEL.replace(weight.tobytes(), change(weight).astype(np.float32).tobytes())


def edit(change: Callable[[Any], object]) -> bytes:
    """Return golden.json with a change."""
    document = json.loads(GOLDEN)
    change(document)
    return json.dumps(document).encode()


def test_signature_of_another_model() -> None:
    """Another number of columns, and another name of an output."""
    flowers = read_manifest(FLOWERS)
    with pytest.raises(ArtifactError, match=r"^model\.onnx: expected inputs .*4.*, found .*3"):
        check_signature(Session((HOUSES.artifact / manifest.MODEL).read_bytes()), flowers)
    with pytest.raises(ArtifactError, match=r"^model\.onnx: expected outputs .*'label'.*'class'"):
        check_signature(Session(MODEL.replace(b"label", b"class")), flowers)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            replace_weight("net.linear1.weight", lambda weight: weight * 1.01),
            r"row 0: expected logits \[-0\.9230.* \.\.\., found \[-0\.9237.*: this is not the",
        ),
        (
            replace_weight("net.linear2.bias", lambda bias: np.full_like(bias, np.nan)),
            r"row 0: expected logits \[.*, found \[NaN, NaN, NaN\]: this is not the trained",
        ),
    ],
)
def test_other_weights(model: bytes, problem: str) -> None:
    """Weights that differ by one percent, and weights that give NaN."""
    with pytest.raises(ArtifactError, match=rf"^golden\.json: {problem}"):
        check_golden_rows(Session(model), GOLDEN)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            edit(lambda g: g["outputs"]["label"].update(accepted=[[9]] * len(g["input"]))),
            "row 0: expected label [9], found",
        ),
        *(
            (edit(change), f"not readable: {problem}")
            for change, problem in (
                (lambda g: g["outputs"].clear(), "ValueError('expected the outputs logits, prob"),
                (lambda g: g["outputs"].pop("label"), "ValueError('expected the outputs logits, p"),
                (lambda g: g["outputs"]["logits"].update(bound=1e9), "TypeError"),
                (lambda g: g["outputs"]["logits"].update(bound=INFINITE), "ValueError('Infinity"),
                (
                    lambda g: g["outputs"]["logits"].update(bound=[[1.0]]),
                    "ValueError('expected ref",
                ),
                (lambda g: g["outputs"]["label"].update(accepted=[]), "ValueError"),
                (lambda g: g["input"].clear(), "ValueError('expected one or more rows of 4"),
                (lambda g: g.update(input=[[1.0, 2.0, 3.0]]), "ValueError('expected one or more"),
                (lambda g: g["input"][0].__setitem__(0, 0.1), "ValueError('expected one or more"),
                (lambda g: g["input"][0].__setitem__(0, 1), "ValueError('expected rows of numbers"),
                (lambda g: g["input"][0].__setitem__(0, True), "ValueError('expected rows of num"),
                (lambda g: g["input"][0].__setitem__(0, "1.0"), "ValueError('expected rows of num"),
                (lambda g: g.pop("input"), "ValueError('expected only format_version 1, input and"),
                (lambda g: g.update(more=1), "ValueError('expected only format_version 1, input"),
            )
        ),
        (
            GOLDEN.replace(b'"input"', b'"input": [], "input"'),
            'not readable: ValueError("duplicate',
        ),
        (GOLDEN.replace(b"[[", b"[[1e999, ", 1), "not readable: ValueError('1e999 is too large"),
        (b"", "not readable"),
        (b"[]", "not readable"),
        (b"[" * 100_000, "not readable: ValueError('expected at most 16 nested levels"),
    ],
)
def test_golden_rows_that_prove_nothing(content: bytes, problem: str) -> None:
    """Wrong labels, missing rows, outputs or bounds, and JSON that parsers read differently."""
    with pytest.raises(ArtifactError, match=rf"^golden\.json: {re.escape(problem)}"):
        check_golden_rows(Session(MODEL), content)
