"""TODO: service.runtime.self_test."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact import manifest, strict_json
from service.artifact.manifest import ArtifactError
from service.runtime.session import Session


def check_golden_rows(session: Session, content: bytes) -> None:
    """Run the rows of golden.json and hold every answer to its reference and bound.

    Raises:
        ArtifactError: an answer is farther from its float64 reference than rounding explains, or the file does
            not state a reference and a finite bound for every element of every output.
    """
    try:
        golden = strict_json.parse(content)
        if (
            set(golden) != {"format_version", "input", "outputs"}
            or golden["format_version"] != manifest.FORMAT_VERSION
        ):
            raise ValueError(
                f"expected format_version {manifest.FORMAT_VERSION}, input and outputs, and nothing else"
            )
        wide = _float_rows(golden["input"])
        rows = wide.astype(np.float32)
        width = session.inputs[manifest.INPUT][1][1]
        if rows.shape != (len(rows) or 1, width) or not np.array_equal(rows, wide):
            raise ValueError(
                f"expected one row of {width} float32 values or more, found shape {rows.shape}"
            )
        answers = session.run(rows)
        if set(golden["outputs"]) != set(answers):
            raise ValueError(
                f"expected the outputs {', '.join(answers)}, found {', '.join(golden['outputs'])}"
            )
        stated = {name: _within_bound(golden["outputs"][name], answers[name]) for name in answers}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{manifest.GOLDEN}: not readable: {error!r}") from None
    for name, allowed in stated.items():
        if not allowed.all():
            row = int(np.argwhere(~allowed)[0][0])
            expected = (
                golden["outputs"][name].get("reference") or golden["outputs"][name]["accepted"]
            )
            raise ArtifactError(
                f"{manifest.GOLDEN}: row {row}: expected {name} {_short(expected[row])}, "
                f"found {_short(answers[name][row].tolist())}: this is not the trained network"
            )


def _within_bound(stated: Mapping[str, Any], answer: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for every element of an answer whether golden.json allows it; raise ValueError where it does not say."""
    if answer.dtype == np.int64:
        accepted = [set(labels) for labels in stated["accepted"]]
        return np.array(
            [label in labels for label, labels in zip(answer.tolist(), accepted, strict=True)], bool
        )
    reference, bound = _float_rows(stated["reference"]), _float_rows(stated["bound"])
    if not reference.shape == bound.shape == answer.shape:
        raise ValueError(f"expected references and bounds of shape {answer.shape}")
    return np.asarray(
        np.abs(answer.astype(np.float64) - reference) <= bound
    )  # NaN is not <= anything


def _float_rows(values: Any) -> NDArray[np.float64]:
    """Return what strict.parse gave as (rows, columns), whose numbers it holds to be finite."""
    if not all(type(value) is float for row in values for value in row):
        raise ValueError("expected rows of numbers, each with a point or an exponent")
    return np.array(values, np.float64)


def check_signature(session: Session, stated: manifest.Manifest) -> None:
    """Raise ArtifactError unless the graph takes and gives what the manifest says."""
    types = {"float32": "tensor(float)", "int64": "tensor(int64)"}
    inputs = {manifest.INPUT: (types["float32"], ["batch", len(stated.features)])}
    outputs: Mapping[str, tuple[str, list[Any]]] = {
        name: (types[dtype], ["batch"] if name == "label" else ["batch", stated.out_features])
        for name, dtype in manifest.OUTPUTS[stated.task].items()
    }
    for what, expected, found in (
        ("inputs", inputs, session.inputs),
        ("outputs", outputs, session.outputs),
    ):
        if list(found.items()) != list(expected.items()):
            raise ArtifactError(f"{manifest.MODEL}: expected {what} {expected}, found {found}")


def _short(values: Any) -> str:
    text = json.dumps(values)
    return text if len(text) <= 60 else text[:60] + " ..."
