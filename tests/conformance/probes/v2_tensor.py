"""The one input of the Open Inference Protocol V2: its name, datatype, shape, and data as JSON."""

from typing import Any

import numpy as np

from tests.conformance.probes import native, v2
from tests.conformance.probes.ask import Ask, Probe, kind, words
from tests.conformance.probes.json_text import Token
from tests.conformance.probes.replies import Refusal

DATATYPES = words("BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP64 BYTES BF16")


@kind("nearly valid", 3)
def data_of_another_length(ask: Ask) -> Probe:
    """test.sh of Triton's L0_http: 15 values, and 18, for [1, 16]: 'Shape does not match true shape of data'."""
    index = ask.rows()
    form: v2.Form = ask.choice(("flat", "nested"))
    made = v2.tensor(ask, index, form)
    made["data"] = ask.choice(
        (made["data"][:-1], made["data"] + made["data"][:1], made["data"] * 2, [])
    )
    return v2.infer(
        ask, {"inputs": [made]}, Refusal(422, "inputs[0].data", f"found {len(made['data'])}")
    )


@kind("nearly valid", 2)
def data_of_another_width(ask: Ask) -> Probe:
    """Nested rows of which one has another width than the shape says."""
    index = ask.rows()
    made, (i, j) = v2.tensor(ask, index, "nested"), ask.place(index)
    row = made["data"][i]
    made["data"][i] = ask.choice((row[:-1], row + row[j:], []))
    return v2.infer(
        ask,
        {"inputs": [made]},
        Refusal(422, f"inputs[0].data[{i}]", f"found {len(made['data'][i])}"),
    )


@kind("nearly valid", 2)
def dimensions_negative(ask: Ask) -> Probe:
    """test_negative_dimensions of Triton's L0_http, [2, -5], and the [-1, 16] that once shut it down (#1649)."""
    width = len(ask.subject.features)
    shape = ask.choice(
        ([2, -5], [-1, width], [1, -width], [-1, -1], [-(2**63), width], [-1, -width])
    )
    return v2.refused(ask, {"shape": shape}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def dimensions_that_overflow(ask: Ask) -> Probe:
    """test_buffer_size_overflow of Triton's L0_http: the product of [16, 2^60 + 2] is 32 in 64 bits."""
    width = len(ask.subject.features)
    shape = ask.choice(
        ([2**4, 2**60 + 2], [2**2, 2**60 + 2], [1, 2**64], [2**70, width], [1, width + 2**32])
    )
    return v2.refused(ask, {"shape": shape}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def too_many_rows(ask: Ask) -> Probe:
    """More rows than are allowed, whatever the data is: the shape is judged before anything is allocated."""
    most, width = ask.subject.most_rows, len(ask.subject.features)
    count = ask.choice((most + 1, most + 100, 2**31, 2**32 // width + 1, 2**62, 2**63 - 1))
    form: v2.Form = ask.choice(("flat", "nested", "binary"))
    return v2.refused(ask, {"shape": [count, width]}, 413, "inputs[0].shape", str(most), form)


@kind("nearly valid", 3)
def no_shape(ask: Ask) -> Probe:
    """Anything but two whole numbers, the second of them the model's; L0_input_validation of Triton."""
    width = len(ask.subject.features)
    shapes: tuple[Any, ...] = (
        [width],
        [1, 1, width],
        [],
        [[1, width]],
        [1.0, width],
        [1, float(width)],
        [True, width],
    )
    shapes += (
        ["1", width],
        [None, width],
        "1",
        4,
        None,
        {},
        {"0": 1},
        [1, width + 1],
        [1, width - 1],
        [width, 1, 1],
    )
    return v2.refused(ask, {"shape": ask.choice(shapes)}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def datatype_of_another_kind(ask: Ask) -> Probe:
    """test_infer_invalid_datatype_error of MLServer, test_fp16_input_not_binary_data of KServe: FP32 it is."""
    datatype = ask.choice((*DATATYPES, "fp32", "FP32 ", "FLOAT", "", None, 1, [], "INVALID"))
    return v2.refused(ask, {"datatype": datatype}, 422, "inputs[0].datatype", '"FP32"')


@kind("nearly valid", 2)
def name_of_another_input(ask: Ask) -> Probe:
    """An input that the model has not; 'Please provide all required input(s)' of Triton's L0_input_validation."""
    name = ask.choice(("INPUT0", "Input", "input ", "", None, 0, ["input"], "output", "input\x00"))
    return v2.refused(ask, {"name": name}, 422, "inputs[0].name", '"input"')


@kind("nearly valid", 4)
def no_number(ask: Ask) -> Probe:
    """'Unable to parse data' of Triton: what is no number, at its place in the flat list or in its row."""
    index = ask.rows()
    form: v2.Form = ask.choice(("flat", "nested"))
    made, (i, j) = v2.tensor(ask, index, form), ask.place(index)
    bad = ask.choice(
        [value for value in native.NOT_NUMBERS if not isinstance(value, list) or form == "nested"]
    )
    if form == "nested":
        made["data"][i] = [*made["data"][i][:j], bad, *made["data"][i][j + 1 :]]
        place = ask.cell(i, j)
    else:
        flat = i * len(ask.subject.features) + j
        made["data"][flat] = bad
        place = f"[{flat}]"
    return v2.infer(
        ask, {"inputs": [made]}, Refusal(422, f"inputs[0].data{place}", "expected a number")
    )


@kind("nearly valid", 2)
def number_beyond_float32(ask: Ask) -> Probe:
    """Finite in JSON, infinite in float32."""
    index = ask.rows()
    form: v2.Form = ask.choice(("flat", "nested"))
    made, (i, j) = v2.tensor(ask, index, form), ask.place(index)
    large, flat = Token(ask.choice(native.TOO_LARGE)), i * len(ask.subject.features) + j
    if form == "nested":
        made["data"][i][j] = large
    else:
        made["data"][flat] = large
    where = "inputs[0].data" + (ask.cell(i, j) if form == "nested" else f"[{flat}]")
    return v2.infer(ask, {"inputs": [made]}, Refusal(422, where, "float32"))


@kind("nearly valid", 2)
def answer_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not: in nested data it has a place, elsewhere a number."""
    index = ask.rows()
    rows, i = ask.beyond(index)
    form: v2.Form = ask.choice(("flat", "nested", "binary"))
    made = v2.tensor(ask, index, form)
    if form != "binary":
        made["data"] = rows if form == "nested" else [value for row in rows for value in row]
    tail = np.array(rows, "<f4").tobytes() if form == "binary" else None
    where = f"inputs[0].data[{i}]" if form == "nested" else f"row {i}"
    return v2.infer(ask, {"inputs": [made]}, Refusal(422, where, "overflows float32"), tail)


@kind("nearly valid", 2)
def nested_data(ask: Ask) -> Probe:
    """test_json_recursion_depth_limit of Triton's L0_http: 50 and 120 lists in each other, for a flat one."""
    depth = ask.choice((3, 50, 120))
    data = Token("[" * depth + "1" + "]" * depth)
    made = v2.tensor(ask, ask.rows(most=1)) | {"data": data}
    return v2.infer(ask, {"inputs": [made]}, Refusal(422, "inputs[0].data[0]", "found 1"))


@kind("nearly valid", 1)
def data_half_nested(ask: Ask) -> Probe:
    """Rows, and among them what is none."""
    index = ask.rows(least=2)
    made, i = v2.tensor(ask, index, "nested"), ask.random.randrange(1, len(index))
    made["data"][i] = ask.choice((1, "a", None, True, 1.5))
    return v2.infer(
        ask, {"inputs": [made]}, Refusal(422, f"inputs[0].data[{i}]", "expected a list")
    )


@kind("nearly valid", 2)
def data_that_is_no_list(ask: Ask) -> Probe:
    """'Unable to parse data' of Triton: no list."""
    data = ask.choice((1, "1", None, True, {}, {"0": [1]}, 1.5))
    return v2.refused(ask, {"data": data}, 422, "inputs[0].data", "expected a list")


@kind("hostile", 1)
def nested_too_deep(ask: Ask) -> Probe:
    """nested_json_crash.py of Triton's L0_http: more lists in each other than a parser follows."""
    depth = ask.choice((1100, 4000))
    made = v2.tensor(ask, ask.rows(most=1)) | {"data": Token("[" * depth + "1" + "]" * depth)}
    return v2.infer(ask, {"inputs": [made]}, Refusal(400))


@kind("hostile", 1)
def numbers_that_json_has_not(ask: Ask) -> Probe:
    """NaN and Infinity are no JSON."""
    made = v2.tensor(ask, ask.rows(most=7))
    made["data"][ask.random.randrange(len(made["data"]))] = Token(ask.choice(native.NOT_JSON))
    return v2.infer(ask, {"inputs": [made]}, Refusal(400))
