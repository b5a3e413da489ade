"""Requests that only TensorFlow Serving's REST API and KServe's V1 protocol have."""

from tests.conformance.draw import Case, Draw, kind
from tests.conformance.json_text import Members
from tests.conformance.kinds.json_rows import NOT_NUMBERS
from tests.conformance.kinds.row_protocols import (
    SIGNATURE,
    V1_INPUTS,
    V1_INSTANCES,
    predict,
    reject,
    v1_document,
    v1_path,
)
from tests.conformance.outcomes import JSON, ErrorReply


@kind("valid", 2)
def input_by_name(draw: Draw) -> Case:
    """{"inputs": {"input": rows}}: the single input by its name."""
    index = draw.index()
    return predict(draw, V1_INPUTS, {"input": draw.cells(index)}, index)


@kind("valid", 1)
def accept_includes_json(draw: Draw) -> Case:
    """An Accept that includes JSON among other media types."""
    index = draw.index()
    several = ("text/csv, */*;q=0.1", "text/html;q=0.9, application/json")
    accept = draw.choice(("*/*", JSON, "application/*", *several))
    return predict(draw, V1_INSTANCES, draw.cells(index), index, headers=[("Accept", accept)])


@kind("nearly valid", 2)
def no_number_in_a_named_input(draw: Draw) -> Case:
    """A value that is no number, below the input's name."""
    index = draw.index()
    cells, (i, j) = draw.cells(index), draw.position(index)
    cells[i][j] = draw.choice(NOT_NUMBERS)
    place = ".input" + draw.cell_path(i, j)
    return reject(draw, V1_INPUTS, {"input": cells}, place, "expected a number")


@kind("nearly valid", 1)
def records_as_inputs(draw: Draw) -> Case:
    """{"inputs": ...} is a tensor and may not contain records."""
    values = list(map(draw.record, draw.cells(draw.index())))
    return reject(draw, V1_INPUTS, values, "[0]", "expected a list")


@kind("nearly valid", 1)
def inputs_by_other_names(draw: Draw) -> Case:
    """Names other than `input`; JsontensorTest.MultipleNamedTensorColumnarFormat of TF Serving."""
    cells = draw.cells(draw.index())
    pair = {"input": cells, "str_tensor": ["foo"]}
    values = draw.choice(({"int_tensor": cells}, pair, {}, {"b64": "aGVsbG8="}))
    return reject(draw, V1_INPUTS, values, "", "expected a list")


@kind("nearly valid", 2)
def instances_and_inputs(draw: Draw) -> Case:
    """Both members, or a signature alone; 'Not formatted correctly' of JsontensorTest."""
    cells = draw.cells(draw.index())
    both = {"instances": cells, "inputs": cells}
    document = draw.choice((both, {"examples": cells}, {"signature_name": SIGNATURE}))
    return draw.post(v1_path(draw), draw.json(document), ErrorReply(422, None, '"instances"'))


@kind("nearly valid", 2)
def unknown_signature(draw: Draw) -> Case:
    """{"signature_name": 5} of TF Serving's JsontensorTest, and other names."""
    name = draw.choice((5, "predict_images", "", None, [], "serving_default "))
    document = Members([("instances", draw.cells(draw.index())), ("signature_name", name)])
    outcome = ErrorReply(422, "signature_name", SIGNATURE)
    return draw.post(v1_path(draw), draw.json(document), outcome)


@kind("nearly valid", 1)
def unknown_member(draw: Draw) -> Case:
    """A further member, which the service must not ignore."""
    document = v1_document(draw, "instances", draw.cells(draw.index()))
    document.append((draw.choice(("examples", "context", "id", "parameters", "Instances")), 1))
    return draw.post(v1_path(draw), draw.json(document), ErrorReply(422))
