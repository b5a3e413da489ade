"""Requests that only the V1 protocols of TensorFlow Serving and KServe have."""

from typing import Any

from tests.conformance.draw import Case, Draw, kind
from tests.conformance.kinds.json_rows import NOT_NUMBERS
from tests.conformance.kinds.row_protocols import SIGNATURE, V1_INPUTS, predict, reject, v1_path
from tests.conformance.outcomes import JSON, ErrorReply


@kind("valid", 2)
def input_by_name(draw: Draw) -> Case:
    """{"inputs": {"input": rows}}, which names the only input, with an Accept that allows JSON."""
    index = draw.index()
    several = ("text/csv, */*;q=0.1", "text/html;q=0.9, application/json")
    headers = [("Accept", draw.choice(("*/*", JSON, "application/*", *several)))]
    return predict(draw, V1_INPUTS, {"input": draw.cells(index)}, index, headers=headers)


@kind("nearly valid", 4)
def wrong_inputs(draw: Draw) -> Case:
    """Wrong cells, records for rows, or wrong input names (MultipleNamedTensorColumnarFormat)."""
    cells, (i, j) = draw.cells_and_position()
    two_inputs = {"input": cells, "str_tensor": ["foo"]}
    others: Any = ({"int_tensor": cells}, two_inputs, {}, {"b64": "aGVs"})
    wrong = (draw.records(cells), "[0]"), (draw.choice(others), "")
    values, place = draw.choice(wrong)
    if draw.chance(0.5):
        return reject(draw, V1_INPUTS, values, place, "expected a list")
    cells[i][j] = draw.choice(NOT_NUMBERS)
    place = ".input" + draw.cell_path(i, j)
    return reject(draw, V1_INPUTS, {"input": cells}, place, "expected a number")


@kind("nearly valid", 2, variants=("members", "signature", "further member"))
def wrong(draw: Draw, variant: str) -> Case:
    """Both or neither of `instances` and `inputs`, a wrong signature, or an unknown member."""
    cells = draw.cells(draw.index())
    both = {"instances": cells, "inputs": cells}
    further = ("examples", "context", "id", "Instances")
    document, outcome = {"instances": cells, draw.choice(further): 1}, ErrorReply(422)
    if variant == "members":
        document = draw.choice((both, {"examples": cells}, {"signature_name": SIGNATURE}))
        outcome = ErrorReply(422, None, '"instances"')
    elif variant == "signature":
        signature = draw.choice((5, "predict_images", False, [], "serving_default "))
        document = {"instances": cells, "signature_name": signature}
        outcome = ErrorReply(422, "signature_name", SIGNATURE)
    return draw.post(v1_path(draw), draw.json(document), outcome)
