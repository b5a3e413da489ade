"""The self-test of a loaded model, which checks its signature and its outputs for golden rows."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact import manifest, strict_json
from service.artifact.manifest import ArtifactError, Manifest
from service.errors import shorten
from service.runtime.session import Rows, Session


def check_signature(session: Session, description: Manifest) -> None:
    """Raise ArtifactError unless the inputs and outputs of the graph match the manifest."""
    types = {"float32": "tensor(float)", "int64": "tensor(int64)"}
    inputs = {manifest.INPUT: (types["float32"], ["batch", len(description.features)])}
    outputs: Mapping[str, tuple[str, list[Any]]] = {
        name: (types[dtype], ["batch"] if name == "label" else ["batch", description.out_features])
        for name, dtype in manifest.OUTPUTS[description.task].items()
    }
    sides = ("inputs", inputs, session.inputs), ("outputs", outputs, session.outputs)
    for side, expected, actual in sides:
        if list(actual.items()) != list(expected.items()):
            raise ArtifactError(f"{manifest.MODEL}: expected {side} {expected}, found {actual}")


def check_golden_rows(session: Session, content: bytes) -> None:
    """Raise ArtifactError unless golden.json accepts the outputs for all of its rows."""
    try:
        golden = strict_json.parse(content)
        rows = _golden_rows(golden, session.inputs[manifest.INPUT][1][1])
        outputs, references = session.run(rows), golden["outputs"]
        if set(references) != set(outputs):
            expected, actual = ", ".join(outputs), ", ".join(references)
            raise ValueError(f"expected the outputs {expected}, found {actual}")
        matches = {name: _match(references[name], outputs[name]) for name in outputs}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{manifest.GOLDEN}: not readable: {error!r}") from None
    for name, match in matches.items():
        if not match.all():
            row = int(np.argwhere(~match)[0][0])
            expected = references[name].get("reference") or references[name]["accepted"]
            actual = outputs[name][row].tolist()
            raise ArtifactError(
                f"{manifest.GOLDEN}: row {row}: expected {name} {_short_json(expected[row])}, "
                f"found {_short_json(actual)}: this is not the trained network"
            )


def _golden_rows(golden: Any, in_features: int) -> Rows:
    """Return the input of golden.json, float32 (rows, in_features), or raise ValueError."""
    members, version = {"format_version", "input", "outputs"}, manifest.FORMAT_VERSION
    if set(golden) != members or golden["format_version"] != version:
        raise ValueError(f"expected only format_version {version}, input and outputs")
    values = _float64_rows(golden["input"])
    rows = values.astype(np.float32)
    if rows.shape != (len(rows) or 1, in_features) or not np.array_equal(rows, values):
        expected = f"one or more rows of {in_features} float32 values"
        raise ValueError(f"expected {expected}, found shape {rows.shape}")
    return rows


def _match(reference: Mapping[str, Any], output: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether golden.json accepts each element of an output."""
    if output.dtype == np.int64:
        pairs = zip(output.tolist(), map(set, reference["accepted"]), strict=True)
        return np.array([label in accepted for label, accepted in pairs], bool)
    values, bound = _float64_rows(reference["reference"]), _float64_rows(reference["bound"])
    if not values.shape == bound.shape == output.shape:
        raise ValueError(f"expected references and bounds of shape {output.shape}")
    # The comparison is false for NaN.
    return np.asarray(np.abs(output.astype(np.float64) - values) <= bound)


def _float64_rows(values: Any) -> NDArray[np.float64]:
    """Return parsed JSON as an array (rows, columns); the parser has rejected NaN and infinity."""
    if not all(type(value) is float for row in values for value in row):
        raise ValueError("expected rows of numbers, each with a point or an exponent")
    return np.array(values, np.float64)


def _short_json(values: object) -> str:
    return shorten(json.dumps(values), limit=60)
