"""Build golden.json (rows with reference outputs, to test any runtime) and example.json."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.errors import ProofError
from export.proof.bound import Float32Array, reference
from export.proof.expected import Weights
from service.artifact import manifest
from service.artifact.manifest import Feature

GOLDEN_ROW_COUNT = 16
"""Number of golden rows, including those removed because their outputs may overflow float32."""


def golden_rows(features: Sequence[Feature]) -> Float32Array:
    """Return rows of medians, minima, maxima, zeros, and of random values between the extremes.

    They are computed from statistics of the columns, because the training data must not be
    published. The minima, maxima or medians can together be a row of the data: always with one
    feature (the median if the number of rows is odd), and whenever the columns rise together, such
    as an index and a time.
    """
    low, median, high = np.array([(f.min, f.median, f.max) for f in features]).T
    between = np.random.default_rng(0).uniform(low, high, (GOLDEN_ROW_COUNT - 4, len(features)))
    rows = np.concatenate([[median, low, high, np.zeros(len(features))], between])
    return rows.astype(np.float32)


def golden_document(weights: Weights, rows: Float32Array) -> dict[str, Any]:
    """Return golden.json for the rows in range; raise ProofError if there are none."""
    rows = rows[reference(weights, rows).in_range]
    if not len(rows):
        problem = "golden rows: the outputs are all out of float32's range"
        raise ProofError(f"{problem}; scale the columns of the data")
    expected = reference(weights, rows)
    outputs: dict[str, Any] = {
        name: {"reference": values.tolist(), "bound": expected.bounds[name].tolist()}
        for name, values in expected.values.items()
    }
    if expected.accepted is not None:
        outputs["label"] = {"accepted": [np.flatnonzero(row).tolist() for row in expected.accepted]}
    return {
        "format_version": manifest.FORMAT_VERSION,
        "input": rows.astype(np.float64).tolist(),
        "outputs": outputs,
    }


def example_document(features: Sequence[Feature]) -> bytes:
    """Return example.json: a request with one row, the column medians rounded to float32."""
    medians = [float(str(np.float32(feature.median))) for feature in features]
    return json_bytes({"instances": [medians]})


def json_bytes(document: dict[str, Any]) -> bytes:
    """Return the JSON text of golden.json or example.json as bytes."""
    return json.dumps(document, allow_nan=False).encode() + b"\n"
