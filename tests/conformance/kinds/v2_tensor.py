"""The input tensor of the Open Inference Protocol V2: name, datatype, shape, and data as JSON."""

from functools import partial
from typing import Any

import numpy as np

from tests.conformance.draw import Case, Draw, kind, register, words
from tests.conformance.json_text import Raw
from tests.conformance.kinds.json_rows import NOT_JSON_NUMBERS, NOT_NUMBERS, TOO_LARGE
from tests.conformance.kinds.v2 import Form, infer, reject_change, reject_tensor, tensor
from tests.conformance.outcomes import ErrorReply

DATATYPES = words("BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP64 BYTES BF16")

NAMES = ("INPUT0", "Input", "input ", "", None, 0, ["input"], "output", "input\x00")
WRONG_MEMBERS: dict[str, tuple[tuple[Any, ...], str]] = {
    "name": (NAMES, '"input"'),
    "datatype": ((*DATATYPES, "fp32", "FP32 ", "FLOAT", "", None, 1, [], "INVALID"), '"FP32"'),
    "data": ((1, "1", None, True, {}, {"0": [1]}, 1.5), "expected a list"),
}
"""Wrong values of each member, with a part of the error.

Among them are those of MLServer's test_infer_invalid_datatype_error, of KServe's
test_fp16_input_not_binary_data and of Triton's L0_input_validation.
"""


def tensor_with_cell(draw: Draw, values: Any) -> tuple[dict[str, Any], str]:
    """Return an input with one of some values in a cell, and the cell's place."""
    index = draw.index()
    form: Form = draw.choice(("flat", "nested"))
    members, (i, j) = tensor(draw, index, form), draw.position(index)
    if form == "nested":
        members["data"][i][j] = draw.choice(values)
        return members, f".data{draw.cell_path(i, j)}"
    flat = i * len(draw.model.features) + j
    # A list inside flat data would make the data nested.
    members["data"][flat] = draw.choice([v for v in values if not isinstance(v, list)])
    return members, f".data[{flat}]"


def wrong_member(draw: Draw, member: str) -> Case:
    """Send an input with a wrong value of a member."""
    values, text = WRONG_MEMBERS[member]
    return reject_change(draw, {member: draw.choice(values)}, f".{member}", text)


def member_missing(draw: Draw, member: str) -> Case:
    """Send an input without a member."""
    return reject_change(draw, {member: ...}, "", member)


for changed in WRONG_MEMBERS:
    build = partial(wrong_member, member=changed)
    register(f"v2 tensor: wrong {changed}", "nearly valid", 2, build, wrong_member.__doc__)
for removed in ("name", "shape", "datatype", "data"):
    build = partial(member_missing, member=removed)
    register(f"v2 tensor: no {removed}", "nearly valid", 1, build, member_missing.__doc__)


@kind("nearly valid", 3)
def data_of_wrong_length(draw: Draw) -> Case:
    """'Shape does not match true shape of data' in test.sh of Triton's L0_http: 15 for [1, 16]."""
    members = tensor(draw, draw.index(), draw.choice(("flat", "nested")))
    data = members["data"]
    members["data"] = data = draw.choice((data[:-1], data + data[:1], data * 2, []))
    return reject_tensor(draw, members, ".data", f"found {len(data)}")


@kind("nearly valid", 3)
def wrong_row(draw: Draw) -> Case:
    """A scalar among nested rows, or a row with another width than the shape's."""
    index = draw.index(at_least=2)
    members, (i, j) = tensor(draw, index, "nested"), draw.position(index, at_least_row=1)
    row = members["data"][i]
    members["data"][i] = draw.choice((row[:-1], row + row[j:], [], 1, "a", None, True, 1.5))
    return reject_tensor(draw, members, f".data[{i}]", "expected")


@kind("nearly valid", 2)
def too_many_rows(draw: Draw) -> Case:
    """More rows than the limit allows: the shape is checked before anything is allocated."""
    limit, width = draw.model.max_rows, len(draw.model.features)
    large = (2**31, 2**32 // width + 1, 2**62, 2**63 - 1)
    shape = [draw.choice((limit + 1, limit + 100, *large)), width]
    form: Form = draw.choice(("flat", "nested", "binary"))
    return reject_change(draw, {"shape": shape}, ".shape", str(limit), form=form, status=413)


@kind("nearly valid", 7)
def wrong_shape(draw: Draw) -> Case:
    """Shapes other than [rows, width]; L0_input_validation of Triton.

    The negative ones are those of test_negative_dimensions of Triton's L0_http, and of #1649, where
    [-1, 16] stopped the server. The product of the large ones wraps around in 64 bits, as in its
    test_buffer_size_overflow.
    """
    width = len(draw.model.features)
    negative = ([2, -5], [-1, width], [1, -width], [-1, -1], [-(2**63), width], [-1, -width])
    large = ([2**4, 2**60 + 2], [2**2, 2**60 + 2], [1, width + 2**32], [1, 2**64], [2**70, width])
    pairs = ([1.0, width], [1, float(width)], [True, width], ["1", width], [None, width])
    lists: Any = ([width], [1, 1, width], [width, 1, 1], [], [[1, width]])
    shapes = (*negative, *large, *pairs, *lists, "1", 4, None, {}, {"0": 1})
    shapes += ([1, width + 1], [1, width - 1])
    return reject_change(draw, {"shape": draw.choice(shapes)}, ".shape", str(width))


@kind("nearly valid", 4)
def no_number(draw: Draw) -> Case:
    """'Unable to parse data' of Triton: a value that is no number, in flat or nested data."""
    return reject_tensor(draw, *tensor_with_cell(draw, NOT_NUMBERS), "expected a number")


@kind("nearly valid", 2)
def number_beyond_float32(draw: Draw) -> Case:
    """A number finite in JSON and infinite in float32."""
    return reject_tensor(draw, *tensor_with_cell(draw, list(map(Raw, TOO_LARGE))), "float32")


@kind("nearly valid", 2)
def row_that_overflows(draw: Draw) -> Case:
    """A finite row whose output is infinite; only a row of nested data has a JSON place."""
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
    """50 and 120 nested lists; test_json_recursion_depth_limit of Triton's L0_http."""
    depth = draw.choice((3, 50, 120))
    data = Raw("[" * depth + "1" + "]" * depth)
    members = tensor(draw, draw.index(at_most=1)) | {"data": data}
    return reject_tensor(draw, members, ".data[0]", "found 1")


@kind("hostile", 2)
def data_outside_json(draw: Draw) -> Case:
    """NaN, hexadecimal and the like; deep nesting, as in nested_json_crash.py of L0_http."""
    deep = [Raw("[" * depth + "1" + "]" * depth) for depth in (1100, 4000)]
    members, _ = tensor_with_cell(draw, [*map(Raw, NOT_JSON_NUMBERS), *deep])
    return infer(draw, {"inputs": [members]}, ErrorReply(400))
