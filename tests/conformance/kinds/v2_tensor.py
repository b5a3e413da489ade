"""The input tensor of the Open Inference Protocol V2, with its data as JSON or as bytes.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from typing import Any

import numpy as np

from tests.conformance.draw import Case, Draw, kind, words
from tests.conformance.json_text import Raw
from tests.conformance.kinds.json_rows import NOT_JSON_NUMBERS, WRONG_CELLS
from tests.conformance.kinds.native import not_finite, wrong_float32
from tests.conformance.kinds.v2 import (
    JSON_LENGTH,
    Form,
    all_outputs,
    infer,
    reject_change,
    reject_tensor,
    tensor,
    v2_path,
)
from tests.conformance.outcomes import BYTES, JSON, ErrorReply

OTHER_DATATYPES = words("BOOL FP16 BYTES BF16")

WRONG_NAMES = ("INPUT0", "Input", "input ", "", None, 0, ["input"], "output", "input\x00")
WRONG_SIZES = ("48", 1.5, True, -1, -48, 0, 7, 2**31, 2**63, 2**64, 2**80, 1e300)
"""Values of binary_data_size that are not integers, or differ from the tensor's size."""
WRONG_LENGTHS = ("-1", "+5", "1e2", "0x10", "abc", "1.0", "5 5", "1,1", "9" * 30, "\u00b2")
"""Values of Inference-Header-Content-Length that are not decimal numbers."""
NO_JSON = [(JSON_LENGTH, "0")]
"""Header of a request without JSON: the body holds only the bytes of the input."""
WRONG_MEMBERS: dict[str, tuple[tuple[Any, ...], str]] = {
    "name": (WRONG_NAMES, '"input"'),
    "datatype": ((*OTHER_DATATYPES, "fp32", "FP32 ", "FLOAT", "", None, 1, []), "one of FP32"),
    "data": ((1, "1", True, {}, {"0": [1]}, 1.5), "expected a list"),
}
"""Wrong values and a part of the error, by member.

The values include those of MLServer's test_infer_invalid_datatype_error, KServe's
test_fp16_input_not_binary_data and Triton's L0_input_validation.
"""


def tensor_with_cell(draw: Draw, values: Any) -> tuple[dict[str, Any], str]:
    """Return an input tensor with a wrong value in one cell, and the JSON path of that cell."""
    index = draw.index()
    form: Form = draw.choice(("flat", "nested"))
    members, (i, j) = tensor(draw, index, form), draw.position(index)
    if form == "nested":
        members["data"][i][j] = draw.choice(values)
        return members, f".data{draw.cell_path(i, j)}"
    flat = i * len(draw.model.features) + j
    # A list inside flat data would make the data nested.
    members["data"][flat] = draw.choice([v for v in values if not str(v).startswith("[")])
    return members, f".data[{flat}]"


@kind("nearly valid", 2, variants=WRONG_MEMBERS)
def wrong(draw: Draw, variant: str) -> Case:
    """An input tensor with a wrong name, datatype or data."""
    values, text = WRONG_MEMBERS[variant]
    return reject_change(draw, {variant: draw.choice(values)}, f".{variant}", text)


@kind("nearly valid", 1, variants=("name", "shape", "datatype", "data"))
def missing(draw: Draw, variant: str) -> Case:
    """An input tensor without a member (KServe's test_..._missing_data_field, Triton's #2436)."""
    return reject_change(draw, {variant: ...}, "", variant)


@kind("nearly valid", 3)
def data_of_wrong_length(draw: Draw) -> Case:
    """More or less data than the shape requires (test.sh of Triton's L0_http)."""
    members = tensor(draw, draw.index(), draw.choice(("flat", "nested")))
    data = members["data"]
    members["data"] = data = draw.choice((data[:-1], data + data[:1], data * 2, []))
    return reject_tensor(draw, members, ".data", f"found {len(data)}")


@kind("nearly valid", 3)
def wrong_row(draw: Draw) -> Case:
    """Nested rows that contain a scalar, or a row whose width differs from the shape."""
    index = draw.index(at_least=2)
    members, (i, j) = tensor(draw, index, "nested"), draw.position(index, at_least_row=1)
    row = members["data"][i]
    members["data"][i] = draw.choice((row[:-1], row + row[j:], [], 1, "a", None, True, 1.5))
    return reject_tensor(draw, members, f".data[{i}]", "expected")


@kind("nearly valid", 7)
def wrong_shape(draw: Draw) -> Case:
    """Shapes other than [rows, width] (Triton's L0_input_validation).

    Negative shapes are those of test_negative_dimensions in Triton's L0_http and of issue #1649.
    The product of a large shape overflows 64 bits, as in test_buffer_size_overflow.
    """
    width = len(draw.model.features)
    negative = ([2, -5], [-1, width], [1, -width], [-1, -1], [-(2**63), width], [-1, -width])
    large = ([2**4, 2**60 + 2], [2**2, 2**60 + 2], [1, width + 2**32], [1, 2**64], [2**70, width])
    pairs = ([1.0, width], [1, float(width)], [True, width], ["1", width], [None, width])
    lists: Any = ([width], [1, 1, width], [width, 1, 1], [], [[1, width]])
    shapes = (*negative, *large, *pairs, *lists, "1", 4, None, {}, {"0": 1})
    shapes += ([1, width + 1], [1, width - 1])
    if draw.chance(0.8):
        return reject_change(draw, {"shape": draw.choice(shapes)}, ".shape", str(width))
    # Too many rows must be rejected before memory for them is allocated.
    limit, form = draw.model.max_rows, draw.choice(("flat", "nested", "binary"))
    rows = draw.choice((limit + 1, limit + 100, 2**31, 2**32 // width + 1, 2**62, 2**63 - 1))
    changes = {"shape": [rows, width]}
    return reject_change(draw, changes, ".shape", str(limit), form=form, status=413)


@kind("nearly valid", 3, variants=WRONG_CELLS)
def wrong_cell(draw: Draw, variant: str) -> Case:
    """A wrong cell in flat or nested data (Triton's 'Unable to parse data')."""
    values, text = WRONG_CELLS[variant]
    return reject_tensor(draw, *tensor_with_cell(draw, values), text)


@kind("nearly valid", 2)
def row_that_overflows(draw: Draw) -> Case:
    """A row whose output overflows; the error names a JSON path only for nested data."""
    index = draw.index()
    rows, i = draw.overflow(index)
    form: Form = draw.choice(("flat", "nested", "binary"))
    members = tensor(draw, index, form)
    if form != "binary":
        members["data"] = rows if form == "nested" else [value for row in rows for value in row]
    tail = np.array(rows, "<f4").tobytes() if form == "binary" else None
    where = f"inputs[0].data[{i}]" if form == "nested" else f"row {i}"
    return infer(draw, {"inputs": [members]}, ErrorReply(422, where, "float32"), tail)


@kind("nearly valid", 2)
def nested_data(draw: Draw) -> Case:
    """Data nested too deeply (test_json_recursion_depth_limit of Triton's L0_http)."""
    depth = draw.choice((3, 50, 120))
    data = Raw("[" * depth + "1" + "]" * depth)
    members = tensor(draw, draw.index(at_most=1)) | {"data": data}
    return reject_tensor(draw, members, ".data[0]", "found 1")


@kind("hostile", 2)
def data_outside_json(draw: Draw) -> Case:
    """Numbers that JSON does not have, or extreme nesting (nested_json_crash.py of L0_http)."""
    deep = [Raw("[" * depth + "1" + "]" * depth) for depth in (1100, 4000)]
    members, _ = tensor_with_cell(draw, [*map(Raw, NOT_JSON_NUMBERS), *deep])
    return infer(draw, {"inputs": [members]}, ErrorReply(400))


@kind("valid", 6, variants=("with JSON", "without JSON"))
def binary_input(draw: Draw, variant: str) -> Case:
    """Binary data after JSON, or alone as in test_raw_binary of Triton's L0_http."""
    index = draw.index()
    if variant == "without JSON":
        outcome, body = all_outputs(draw, index, binary=True), draw.float32(index)
        content_type = draw.choice((BYTES, None, JSON))
        return draw.post(v2_path(draw), body, outcome, content_type=content_type, headers=NO_JSON)
    binary, members = draw.chance(0.7), draw.shuffled(tensor(draw, index, "binary").items())
    document = {"inputs": [members], "parameters": {"binary_data_output": binary}}
    outcome = all_outputs(draw, index, binary=binary)
    return infer(draw, draw.shuffled(document.items()), outcome, draw.float32(index))


@kind("valid", 4, variants=("JSON", "binary"))
def numbers_of_other_types(draw: Draw, variant: str) -> Case:
    """FP64 data, which are rounded as in JSON, or zeros of an integer type."""
    index, name, dtype = draw.index(), "FP64", "<f8"
    if draw.chance(0.3):
        types = (("INT8", "<i1"), ("INT32", "<i4"), ("INT64", "<i8"), ("UINT16", "<u2"))
        index, (name, dtype) = draw.model.zero, draw.choice(types)
    members = tensor(draw, index) | {"datatype": name}
    if variant == "JSON":
        return infer(draw, {"inputs": [members]}, all_outputs(draw, index))
    tail = draw.raw(index, dtype)
    del members["data"]
    members["parameters"] = {"binary_data_size": len(tail)}
    return infer(draw, {"inputs": [members]}, all_outputs(draw, index), tail)


@kind("nearly valid", 2)
def number_outside_its_type(draw: Draw) -> Case:
    """A fraction or a number out of range in a tensor of integers."""
    width = len(draw.model.features)
    name, value = draw.choice((("INT64", 0.5), ("INT8", 128), ("UINT32", -1), ("INT32", 2**31)))
    j = draw.random.randrange(width)
    data = [value if index == j else 1 for index in range(width)]
    members = {"name": "input", "datatype": name, "shape": [1, width], "data": data}
    return reject_tensor(draw, members, f".data[{j}]", name.lower())


@kind("nearly valid", 3, variants=("declared", "sent"))
def wrong_size(draw: Draw, variant: str) -> Case:
    """Binary data whose size differs from the declared size, as in Triton's http_server.cc."""
    if variant == "declared":
        parameters = {"binary_data_size": draw.choice(WRONG_SIZES)}
        place = ".parameters.binary_data_size"
        return reject_change(draw, {"parameters": parameters}, place, form="binary")
    tail = draw.float32(index := draw.index())
    tail = draw.choice((tail[:-1], tail + b"\0", tail * 2, b"", tail[:-4]))
    outcome = ErrorReply(400, None, f"found {len(tail)}")
    return infer(draw, {"inputs": [tensor(draw, index, "binary")]}, outcome, tail)


@kind("nearly valid", 2)
def contradictory_data(draw: Draw) -> Case:
    """Both or neither of data and binary_data_size, or data with a binary tail."""
    index = draw.index()
    members, tail = tensor(draw, index), draw.float32(index)
    without_data = {name: value for name, value in members.items() if name != "data"}
    both = members | {"parameters": {"binary_data_size": len(tail)}}
    neither = (without_data, ErrorReply(422, "inputs[0]", "binary_data_size"))
    wrong = (neither, (members, ErrorReply(400)), (both, ErrorReply(422, "inputs[0]")))
    inputs, outcome = draw.choice(wrong)
    return infer(draw, {"inputs": [inputs]}, outcome, tail)


@kind("nearly valid", 4)
def wrong_bytes(draw: Draw) -> Case:
    """Wrong binary data: not finite, incomplete, empty, or too many rows."""
    if draw.chance(0.7):
        body, outcome = wrong_float32(draw)
        return draw.post(v2_path(draw), body, outcome, content_type=None, headers=NO_JSON)
    tail, outcome = not_finite(draw, index := draw.index())
    return infer(draw, {"inputs": [tensor(draw, index, "binary")]}, outcome, tail)


@kind("hostile", 2, variants=("not a number", "inside the JSON"))
def json_length(draw: Draw, variant: str) -> Case:
    """A wrong JSON length in the header, as in Triton's http_server.cc."""
    body = draw.json({"inputs": [tensor(draw, index := draw.index(), "binary")]}).strip()
    tail = b"\xff" + draw.float32(index)[1:]
    lengths = (1, len(body) - 1, len(body) // 2, len(body) + 1, len(body) + len(tail), 99999999)
    length = draw.choice(lengths if variant == "inside the JSON" else WRONG_LENGTHS)
    headers = [(JSON_LENGTH, str(length))]
    text = JSON_LENGTH if variant == "not a number" and length.isascii() else ""
    outcome = ErrorReply(400, None, text)
    return draw.post(v2_path(draw), body + tail, outcome, content_type=BYTES, headers=headers)
