"""Requests that only TensorFlow Serving's REST API and KServe's V1 protocol have."""

from typing import Any

from tests.conformance.draw import Case, Draw, kind
from tests.conformance.kinds.json_rows import NOT_NUMBERS
from tests.conformance.kinds.row_protocols import SIGNATURE, V1_INPUTS, predict, reject, v1_path
from tests.conformance.outcomes import JSON, ErrorReply


@kind("valid", 2)
def input_by_name(draw: Draw) -> Case:
    """{"inputs": {"input": rows}}, the single input by its name, and an Accept with JSON."""
    index = draw.index()
    several = ("text/csv, */*;q=0.1", "text/html;q=0.9, application/json")
    headers = [("Accept", draw.choice(("*/*", JSON, "application/*", *several)))]
    return predict(draw, V1_INPUTS, {"input": draw.cells(index)}, index, headers=headers)


@kind("nearly valid", 2)
def no_number_in_a_named_input(draw: Draw) -> Case:
    """A value that is no number, below the input's name."""
    cells, (i, j) = draw.cells_and_position()
    cells[i][j] = draw.choice(NOT_NUMBERS)
    place = ".input" + draw.cell_path(i, j)
    return reject(draw, V1_INPUTS, {"input": cells}, place, "expected a number")


@kind("nearly valid", 2)
def wrong_inputs(draw: Draw) -> Case:
    """Records, or names other than `input` (MultipleNamedTensorColumnarFormat of TF Serving)."""
    cells = draw.cells(draw.index())
    two_inputs = {"input": cells, "str_tensor": ["foo"]}
    others: Any = ({"int_tensor": cells}, two_inputs, {}, {"b64": "aGVs"})
    records = (draw.records(cells), "[0]")
    values, place = draw.choice((records, (draw.choice(others), "")))
    return reject(draw, V1_INPUTS, values, place, "expected a list")


@kind("nearly valid", 2)
def instances_and_inputs(draw: Draw) -> Case:
    """Both members, or a signature alone; 'Not formatted correctly' of JsontensorTest."""
    cells = draw.cells(draw.index())
    both = {"instances": cells, "inputs": cells}
    document = draw.choice((both, {"examples": cells}, {"signature_name": SIGNATURE}))
    return draw.post(v1_path(draw), draw.json(document), ErrorReply(422, None, '"instances"'))


@kind("nearly valid", 3)
def further_member(draw: Draw) -> Case:
    """An unknown member, or an unknown signature, such as 5 in TF Serving's JsontensorTest."""
    others = ("examples", "context", "id", "parameters", "Instances")
    name, outcome = draw.choice(others), ErrorReply(422)
    if draw.chance(0.6):
        name, outcome = "signature_name", ErrorReply(422, "signature_name", SIGNATURE)
    value = draw.choice((5, "predict_images", "", None, [], "serving_default "))
    document = {"instances": draw.cells(draw.index()), name: value}
    return draw.post(v1_path(draw), draw.json(document), outcome)
