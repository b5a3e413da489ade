"""The Open Inference Protocol V2, as KServe's and Triton's clients speak it: POST /v2/models/M/infer.

The negative cases of Triton's qa/L0_http (http_test.py, test.sh, http_input_size_limit_test.py, nested_json_crash.py),
qa/L0_input_validation and src/http_server.cc, of KServe's python/kserve/test (test_infer_type.py, test_server.py) and
of MLServer's tests/rest are among them, each in the kind that names it.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from probes import native
from probes.ask import Ask, Headers, Probe, kind
from probes.json_text import Members, Token
from probes.replies import BYTES, CSV, JSON, Expected, Refusal, Tensors
from probes.subject import Index

Form = Literal["flat", "nested", "binary"]
HEADER = "Inference-Header-Content-Length"
DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP64",
    "BYTES",
    "BF16",
)
IDS = ("1", "", "4be4e82f-5500-420a-a5c5-ac86841e271b", "caf\u00e9", "a" * 300, "\u2028 \U0001f600", 'q"u\\o')
NOT_SIZES = ("48", 1.5, True, -1, -48, 0, 7, 2**31, 2**63, 2**64, 2**80, 1e300)
"""Of binary_data_size: no integers, and integers that are not the tensor's."""
NOT_LENGTHS = ("-1", "+5", "1e2", "0x10", "abc", "1.0", "5 5", "1,1", "9" * 30, "\u00b2")
"""Of Inference-Header-Content-Length."""
KSERVE_PARAMETERS = {"test-str": "dummy", "test-bool": True, "test-int": 100, "test-float": 1.3}


def path(ask: Ask) -> str:
    """Return a path that answers, with a version in it or not."""
    version = ask.choice(("", f"/versions/{ask.subject.version}"))
    return f"/v2/models/{ask.subject.name}{version}/infer"


def tensor(ask: Ask, index: Index, form: Form = "flat") -> dict[str, Any]:
    """Return the one input."""
    shape = [len(index), len(ask.subject.features)]
    made: dict[str, Any] = {"name": "input", "shape": shape, "datatype": "FP32"}
    if form == "binary":
        return made | {"parameters": {"binary_data_size": 4 * shape[0] * shape[1]}}
    rows = ask.texts(index)
    return made | {"data": rows if form == "nested" else [value for row in rows for value in row]}


def raw(ask: Ask, index: Index) -> bytes:
    """Return rows as the protocol has them in bytes."""
    return ask.subject.wide[index].astype("<f4").tobytes()


def shuffled(ask: Ask, document: Mapping[str, Any]) -> Members:
    """Return an object with its members in any order."""
    members = Members(document.items())
    ask.random.shuffle(members)
    return members


def infer(
    ask: Ask,
    document: Any,
    expected: Expected,
    tail: bytes | None = None,
    form: str | None = JSON,
    headers: Headers = (),
    length: str | None = None,
) -> Probe:
    """Send a document, and bytes behind it."""
    body = ask.text(document)
    if tail is not None:
        headers = [*headers, (HEADER, str(len(body)) if length is None else length)]
        form = ask.choice((BYTES, None, JSON)) if form == JSON else form
    return ask.post(path(ask), body + (tail or b""), expected, form=form, headers=headers)


def refused(
    ask: Ask, changes: dict[str, Any], status: int, where: str | None, says: str = "", form: Form = "flat"
) -> Probe:
    """Send a request whose one input is changed, or lacks what is changed to ..."""
    index = ask.rows()
    made = {name: value for name, value in (tensor(ask, index, form) | changes).items() if value is not ...}
    tail = raw(ask, index) if form == "binary" else None
    return infer(ask, {"inputs": [shuffled(ask, made)]}, Refusal(status, where, says), tail)


def outputs(ask: Ask) -> tuple[list[dict[str, Any]], dict[str, bool], bool | None]:
    """Draw outputs to ask for, the way each comes back in, and what is asked of all of them."""
    names = ask.random.sample(list(ask.subject.outputs), ask.random.randint(1, len(ask.subject.outputs)))
    default = ask.choice((None, None, True, False))
    listed, asked = [], {}
    for name in names:
        own = ask.choice((None, True, False))
        parameters = {} if own is None else {"parameters": {"binary_data": own}}
        listed.append({"name": name, **parameters})
        asked[name] = bool(default) if own is None else own
    return listed, asked, default


@kind("valid", 12)
def numbers(ask: Ask) -> Probe:
    """Data flat or nested, every output in JSON; the id comes back."""
    index, request_id = ask.rows(), ask.choice((None, *IDS))
    document: dict[str, Any] = {"inputs": [shuffled(ask, tensor(ask, index, ask.choice(("flat", "nested"))))]}
    if request_id is not None:
        document["id"] = request_id
    if ask.random.random() < 0.3:
        document["model_name"] = ask.subject.name  # KServe's client writes it
    form = ask.choice((JSON, JSON, None, "application/json; charset=utf-8", "application/x-www-form-urlencoded"))
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False), request_id)
    return infer(ask, shuffled(ask, document), expected, form=form)


@kind("valid", 8)
def some_outputs(ask: Ask) -> Probe:
    """Any of the outputs in any order, each as numbers or bytes; test_binary_data_parameter_precedence of KServe."""
    index = ask.rows()
    listed, asked, default = outputs(ask)
    form: Form = ask.choice(("flat", "nested", "binary"))
    document: dict[str, Any] = {"inputs": [tensor(ask, index, form)], "outputs": listed}
    if default is not None:
        document["parameters"] = {"binary_data_output": default}
    tail = raw(ask, index) if form == "binary" else None
    return infer(ask, shuffled(ask, document), Tensors(ask.subject, index, asked), tail)


@kind("valid", 8)
def binary(ask: Ask) -> Probe:
    """The binary tensor extension both ways, as Triton's client speaks by default."""
    index, back = ask.rows(), ask.random.random() < 0.7
    document: dict[str, Any] = {"inputs": [shuffled(ask, tensor(ask, index, "binary"))]}
    if back:
        document["parameters"] = {"binary_data_output": True}
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, back))
    return infer(ask, shuffled(ask, document), expected, raw(ask, index))


@kind("valid", 4)
def raw_binary(ask: Ask) -> Probe:
    """test_raw_binary and test_raw_binary_longer of Triton's L0_http: bytes alone; every output comes back in bytes."""
    index = ask.rows()
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, True))
    form = ask.choice((BYTES, None, JSON))
    return ask.post(path(ask), raw(ask, index), expected, form=form, headers=[(HEADER, "0")])


@kind("valid", 2)
def length_of_json_alone(ask: Ask) -> Probe:
    """The header may stand where no bytes follow, and counts the whole body."""
    index = ask.rows()
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False))
    return infer(ask, {"inputs": [tensor(ask, index)]}, expected, b"")


@kind("valid", 2)
def parameters_unknown(ask: Ask) -> Probe:
    """test_infer_parameters_v2 of KServe: parameters of every type that nobody here knows are passed over."""
    index = ask.rows()
    made = tensor(ask, index) | {"parameters": KSERVE_PARAMETERS}
    listed = [{"name": name, "parameters": KSERVE_PARAMETERS} for name in ask.subject.outputs]
    document = {"inputs": [made], "outputs": listed, "parameters": KSERVE_PARAMETERS}
    return infer(ask, document, Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False)))


@kind("valid", 2)
def no_rows(ask: Ask) -> Probe:
    """A shape of [0, n], in JSON and in bytes."""
    none = ask.rows()[:0]
    form: Form = ask.choice(("flat", "binary"))
    document = {"inputs": [tensor(ask, none, form)], "outputs": []}
    expected = Tensors(ask.subject, none, dict.fromkeys(ask.subject.outputs, False))
    return infer(ask, document, expected, b"" if form == "binary" else None)


@kind("valid", 1)
def as_many_rows_as_allowed(ask: Ask) -> Probe:
    """The cap itself is allowed."""
    index = ask.rows(least=ask.subject.most_rows)
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False))
    return infer(ask, {"inputs": [tensor(ask, index, "binary")]}, expected, raw(ask, index))


@kind("valid", 1)
def accept_that_takes_it(ask: Ask) -> Probe:
    """Accept has its say on the media type that the protocol's own parameters decide."""
    index, back = ask.rows(), ask.random.random() < 0.5
    both = ("*/*", "application/*", f"{BYTES}, {JSON};q=0.5", "text/html, */*;q=0.2")
    accept = ask.choice((*both, BYTES) if back else (*both, JSON))
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, back))
    document = {"inputs": [tensor(ask, index)], "parameters": {"binary_data_output": back}}
    return infer(ask, document, expected, headers=[("Accept", accept)])


@kind("nearly valid", 1)
def nothing_that_is_accepted(ask: Ask) -> Probe:
    """Neither CSV nor a page is to be had here."""
    accept = ask.choice((CSV, "text/html", "image/*", "application/json;q=0"))
    return infer(ask, {"inputs": [tensor(ask, ask.rows())]}, Refusal(406), headers=[("Accept", accept)])


@kind("nearly valid", 2)
def type_that_is_not_spoken(ask: Ask) -> Probe:
    """Another media type; or bytes without the header that says where the JSON ends."""
    form = ask.choice((CSV, "text/plain", BYTES, "application/avro", "application/cloudevents+json"))
    return infer(ask, {"inputs": [tensor(ask, ask.rows())]}, Refusal(415, None, JSON), form=form)


@kind("nearly valid", 3)
def data_of_another_length(ask: Ask) -> Probe:
    """test.sh of Triton's L0_http: 15 values, and 18, for [1, 16]: 'Shape does not match true shape of data'."""
    index = ask.rows()
    form: Form = ask.choice(("flat", "nested"))
    made = tensor(ask, index, form)
    made["data"] = ask.choice((made["data"][:-1], made["data"] + made["data"][:1], made["data"] * 2, []))
    return infer(ask, {"inputs": [made]}, Refusal(422, "inputs[0].data", f"found {len(made['data'])}"))


@kind("nearly valid", 2)
def data_of_another_width(ask: Ask) -> Probe:
    """Nested rows of which one has another width than the shape says."""
    index = ask.rows()
    made, (i, j) = tensor(ask, index, "nested"), ask.place(index)
    row = made["data"][i]
    made["data"][i] = ask.choice((row[:-1], row + row[j:], []))
    return infer(ask, {"inputs": [made]}, Refusal(422, f"inputs[0].data[{i}]", f"found {len(made['data'][i])}"))


@kind("nearly valid", 2)
def dimensions_negative(ask: Ask) -> Probe:
    """test_negative_dimensions of Triton's L0_http, [2, -5], and the [-1, 16] that once shut it down (#1649)."""
    width = len(ask.subject.features)
    shape = ask.choice(([2, -5], [-1, width], [1, -width], [-1, -1], [-(2**63), width], [-1, -width]))
    return refused(ask, {"shape": shape}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def dimensions_that_overflow(ask: Ask) -> Probe:
    """test_buffer_size_overflow of Triton's L0_http: the product of [16, 2^60 + 2] is 32 in 64 bits."""
    width = len(ask.subject.features)
    shape = ask.choice(([2**4, 2**60 + 2], [2**2, 2**60 + 2], [1, 2**64], [2**70, width], [1, width + 2**32]))
    return refused(ask, {"shape": shape}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def too_many_rows(ask: Ask) -> Probe:
    """More rows than are allowed, whatever the data is: the shape is judged before anything is allocated."""
    most, width = ask.subject.most_rows, len(ask.subject.features)
    count = ask.choice((most + 1, most + 100, 2**31, 2**32 // width + 1, 2**62, 2**63 - 1))
    form: Form = ask.choice(("flat", "nested", "binary"))
    return refused(ask, {"shape": [count, width]}, 413, "inputs[0].shape", str(most), form)


@kind("nearly valid", 3)
def no_shape(ask: Ask) -> Probe:
    """Anything but two whole numbers, the second of them the model's; L0_input_validation of Triton."""
    width = len(ask.subject.features)
    shapes: tuple[Any, ...] = ([width], [1, 1, width], [], [[1, width]], [1.0, width], [1, float(width)], [True, width])
    shapes += (["1", width], [None, width], "1", 4, None, {}, {"0": 1}, [1, width + 1], [1, width - 1], [width, 1, 1])
    return refused(ask, {"shape": ask.choice(shapes)}, 422, "inputs[0].shape", str(width))


@kind("nearly valid", 2)
def datatype_of_another_kind(ask: Ask) -> Probe:
    """test_infer_invalid_datatype_error of MLServer, test_fp16_input_not_binary_data of KServe: FP32 it is."""
    datatype = ask.choice((*DATATYPES, "fp32", "FP32 ", "FLOAT", "", None, 1, [], "INVALID"))
    return refused(ask, {"datatype": datatype}, 422, "inputs[0].datatype", '"FP32"')


@kind("nearly valid", 2)
def name_of_another_input(ask: Ask) -> Probe:
    """An input that the model has not; 'Please provide all required input(s)' of Triton's L0_input_validation."""
    name = ask.choice(("INPUT0", "Input", "input ", "", None, 0, ["input"], "output", "input\x00"))
    return refused(ask, {"name": name}, 422, "inputs[0].name", '"input"')


@kind("nearly valid", 3)
def member_missing(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_missing_data_field of KServe, Triton's #2436 (no shape), and the other members."""
    missing = ask.choice(("name", "shape", "datatype", "data"))
    return refused(ask, {missing: ...}, 422, "inputs[0]", missing)


@kind("nearly valid", 2)
def member_unknown(ask: Ask) -> Probe:
    """Nothing stands there that would be passed over."""
    made = tensor(ask, ask.rows())
    document: dict[str, Any] = {"inputs": [made], "outputs": [{"name": name} for name in ask.subject.outputs]}
    place, holder = ask.choice(((None, document), ("inputs[0]", made), ("outputs[0]", document["outputs"][0])))
    holder[ask.choice(("versions", "Data", "dtype", "", "x" * 500))] = 1
    return infer(ask, document, Refusal(422, place, "no member beside"))


@kind("nearly valid", 2)
def inputs_of_another_number(ask: Ask) -> Probe:
    """test_input_validation_required_empty of Triton: none, or several, or no list at all."""
    made = tensor(ask, ask.rows(most=7))
    inputs = ask.choice(([], [made, made], [made, made | {"name": "b"}], "invalid", None, {}, made, 1, [made] * 40))
    return infer(ask, {"inputs": inputs}, Refusal(422, "inputs", "one input"))


@kind("nearly valid", 1)
def no_inputs(ask: Ask) -> Probe:
    """JSON, and nothing in it that is asked."""
    document = ask.choice(({}, {"outputs": []}, {"id": "1"}, {"instances": [[1]]}, {"Inputs": []}))
    return infer(ask, document, Refusal(422, None, '"inputs"'))


@kind("nearly valid", 1)
def no_object(ask: Ask) -> Probe:
    """An object is expected, for the whole of it and for an input."""
    if ask.random.random() < 0.5:
        return infer(ask, ask.choice(([], 1, "a", None, [{}])), Refusal(422, None, "an object"))
    return infer(ask, {"inputs": [ask.choice(([], 1, "a", None, True))]}, Refusal(422, "inputs[0]", "an object"))


@kind("nearly valid", 4)
def no_number(ask: Ask) -> Probe:
    """'Unable to parse data' of Triton: what is no number, at its place in the flat list or in its row."""
    index = ask.rows()
    form: Form = ask.choice(("flat", "nested"))
    made, (i, j) = tensor(ask, index, form), ask.place(index)
    bad = ask.choice([value for value in native.NOT_NUMBERS if not isinstance(value, list) or form == "nested"])
    if form == "nested":
        made["data"][i] = [*made["data"][i][:j], bad, *made["data"][i][j + 1 :]]
        place = ask.cell(i, j)
    else:
        flat = i * len(ask.subject.features) + j
        made["data"][flat] = bad
        place = f"[{flat}]"
    return infer(ask, {"inputs": [made]}, Refusal(422, f"inputs[0].data{place}", "expected a number"))


@kind("nearly valid", 2)
def number_beyond_float32(ask: Ask) -> Probe:
    """Finite in JSON, infinite in float32."""
    index = ask.rows()
    form: Form = ask.choice(("flat", "nested"))
    made, (i, j) = tensor(ask, index, form), ask.place(index)
    large, flat = Token(ask.choice(native.TOO_LARGE)), i * len(ask.subject.features) + j
    if form == "nested":
        made["data"][i][j] = large
    else:
        made["data"][flat] = large
    where = "inputs[0].data" + (ask.cell(i, j) if form == "nested" else f"[{flat}]")
    return infer(ask, {"inputs": [made]}, Refusal(422, where, "float32"))


@kind("nearly valid", 2)
def answer_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not: in nested data it has a place, elsewhere a number."""
    index = ask.rows()
    rows, i = ask.beyond(index)
    form: Form = ask.choice(("flat", "nested", "binary"))
    made = tensor(ask, index, form)
    if form != "binary":
        made["data"] = rows if form == "nested" else [value for row in rows for value in row]
    tail = np.array(rows, "<f4").tobytes() if form == "binary" else None
    where = f"inputs[0].data[{i}]" if form == "nested" else f"row {i}"
    return infer(ask, {"inputs": [made]}, Refusal(422, where, "overflows float32"), tail)


@kind("nearly valid", 2)
def nested_data(ask: Ask) -> Probe:
    """test_json_recursion_depth_limit of Triton's L0_http: 50 and 120 lists in each other, for a flat one."""
    depth = ask.choice((3, 50, 120))
    data = Token("[" * depth + "1" + "]" * depth)
    made = tensor(ask, ask.rows(most=1)) | {"data": data}
    return infer(ask, {"inputs": [made]}, Refusal(422, "inputs[0].data[0]", "found 1"))


@kind("nearly valid", 1)
def data_half_nested(ask: Ask) -> Probe:
    """Rows, and among them what is none."""
    index = ask.rows(least=2)
    made, i = tensor(ask, index, "nested"), ask.random.randrange(1, len(index))
    made["data"][i] = ask.choice((1, "a", None, True, 1.5))
    return infer(ask, {"inputs": [made]}, Refusal(422, f"inputs[0].data[{i}]", "expected a list"))


@kind("nearly valid", 2)
def data_that_is_no_list(ask: Ask) -> Probe:
    """'Unable to parse data' of Triton: no list."""
    data = ask.choice((1, "1", None, True, {}, {"0": [1]}, 1.5))
    return refused(ask, {"data": data}, 422, "inputs[0].data", "expected a list")


@kind("nearly valid", 2)
def outputs_that_stand_twice(ask: Ask) -> Probe:
    """test_duplicate_output_names of Triton's L0_http (CVE-2025-23310 and its like): each output once."""
    names = list(ask.subject.outputs)
    names.insert(ask.random.randrange(1, len(names) + 1), names[0])
    again = len(names) - 1 - names[::-1].index(names[0])
    listed = [{"name": name} for name in names] * ask.choice((1, 1, 100))
    document = {"inputs": [tensor(ask, ask.rows(most=7))], "outputs": listed}
    return infer(ask, document, Refusal(422, f"outputs[{again}].name", "stands twice"))


@kind("nearly valid", 2)
def outputs_unknown(ask: Ask) -> Probe:
    """'unexpected inference output' of Triton: an output that the graph has not."""
    listed: list[Any] = [{"name": name} for name in ask.subject.outputs]
    i = ask.random.randrange(len(listed) + 1)
    listed.insert(i, {"name": ask.choice(("OUTPUT0", "Label", "", None, 1, "input", "logits ", [], "x" * 5000))})
    document = {"inputs": [tensor(ask, ask.rows())], "outputs": listed}
    return infer(ask, document, Refusal(422, f"outputs[{i}].name", "expected one of"))


@kind("nearly valid", 1)
def no_outputs(ask: Ask) -> Probe:
    """'Unable to parse outputs' of Triton: no list of objects with names."""
    where, listed = ask.choice(
        (("outputs", {}), ("outputs", "all"), ("outputs", 1), ("outputs[0]", ["label"]), ("outputs[0]", [{}]))
    )
    return infer(ask, {"inputs": [tensor(ask, ask.rows())], "outputs": listed}, Refusal(422, where))


@kind("nearly valid", 2)
def parameters_of_another_kind(ask: Ask) -> Probe:
    """Parameters are scalars by name, and those that this service reads are booleans."""
    bad = ask.choice(("true", 1, 0, "", 1.5))
    document, where = ask.choice(
        (
            ({"parameters": ask.choice(([], 1, "a", [{}]))}, "parameters"),
            ({"parameters": {"a": ask.choice(([], {}, None, [1]))}}, "parameters.a"),
            ({"parameters": {"binary_data_output": bad}}, "parameters.binary_data_output"),
            ({"outputs": [{"name": n, "parameters": {"binary_data": bad}} for n in ask.subject.outputs]}, None),
        )
    )
    where = where or "outputs[0].parameters.binary_data"
    return infer(ask, {"inputs": [tensor(ask, ask.rows())], **document}, Refusal(422, where, "expected"))


@kind("nearly valid", 2)
def parameters_that_are_not_served(ask: Ask) -> Probe:
    """Shared memory, sequences, classification: Triton's extensions that would change what the answer means."""
    memory = {"shared_memory_region": "x", "shared_memory_byte_size": 16}
    name = next(iter(ask.subject.outputs))
    made = tensor(ask, ask.rows())
    document, where = ask.choice(
        (
            ({"inputs": [made | {"parameters": memory}]}, "inputs[0].parameters.shared_memory_region"),
            ({"inputs": [made], "parameters": {"sequence_id": 7}}, "parameters.sequence_id"),
            ({"inputs": [made], "parameters": {"sequence_start": True}}, "parameters.sequence_start"),
            (
                {"inputs": [made], "outputs": [{"name": name, "parameters": {"classification": 2}}]},
                "outputs[0].parameters.classification",
            ),
            (
                {"inputs": [made], "outputs": [{"name": name, "parameters": memory}]},
                "outputs[0].parameters.shared_memory_region",
            ),
        )
    )
    return infer(ask, document, Refusal(422, where, "not supported"))


@kind("nearly valid", 1)
def id_that_is_no_string(ask: Ask) -> Probe:
    """An id is echoed, so it is what the protocol says: a string."""
    document = {"id": ask.choice((1, 1.5, [], {}, True)), "inputs": [tensor(ask, ask.rows())]}
    return infer(ask, document, Refusal(422, "id", "expected a string"))


@kind("nearly valid", 1)
def model_of_another_name(ask: Ask) -> Probe:
    """KServe's client writes the model's name into the body too: it must be the one in the path."""
    document = {"model_name": ask.choice(("TestModel", "", 1, "../x")), "inputs": [tensor(ask, ask.rows())]}
    return infer(ask, document, Refusal(422, "model_name", ask.subject.name))


@kind("nearly valid", 3)
def binary_size_of_another_kind(ask: Ask) -> Probe:
    """'unexpected size for input' of Triton's http_server.cc; the size is held to the shape before it is used."""
    parameters = {"binary_data_size": ask.choice(NOT_SIZES)}
    return refused(ask, {"parameters": parameters}, 422, "inputs[0].parameters.binary_data_size", form="binary")


@kind("nearly valid", 3)
def binary_of_another_length(ask: Ask) -> Probe:
    """'expecting .. additional bytes' and 'unexpected additional input data' of Triton's http_server.cc."""
    index = ask.rows()
    tail = raw(ask, index)
    tail = ask.choice((tail[:-1], tail + b"\0", tail * 2, b"", tail[:-4]))
    return infer(ask, {"inputs": [tensor(ask, index, "binary")]}, Refusal(400, None, f"found {len(tail)}"), tail)


@kind("nearly valid", 2)
def binary_without_its_parameter(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_missing_binary_data_size of KServe; and bytes behind numbers, and both at once."""
    index = ask.rows()
    made = tensor(ask, index)
    tail = raw(ask, index)
    bare = {name: value for name, value in made.items() if name != "data"}
    size = {"parameters": {"binary_data_size": len(tail)}}
    sent, expected = ask.choice(
        (
            (bare, Refusal(422, "inputs[0]", "binary_data_size")),
            (made, Refusal(400, None, "follow")),
            (made | size, Refusal(422, "inputs[0]")),
        )
    )
    return infer(ask, {"inputs": [sent]}, expected, tail)


@kind("nearly valid", 2)
def binary_that_is_not_finite(ask: Ask) -> Probe:
    """Infinities and NaNs, at a row and a column, behind JSON and alone."""
    index = ask.rows()
    bits, (i, j) = ask.subject.wide[index].astype("<f4").view("<u4"), ask.place(index)
    bits[i, j] = ask.choice((0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001))
    expected = Refusal(422, f"row {i}, column {j}", "finite")
    if ask.random.random() < 0.5:
        return ask.post(path(ask), bits.tobytes(), expected, form=None, headers=[(HEADER, "0")])
    return infer(ask, {"inputs": [tensor(ask, index, "binary")]}, expected, bits.tobytes())


@kind("nearly valid", 2)
def raw_binary_of_another_length(ask: Ask) -> Probe:
    """Half a row, or nothing, where the bytes stand alone; too many rows, as http_input_size_limit_test.py has them."""
    most, width = ask.subject.most_rows, 4 * len(ask.subject.features)
    tail = raw(ask, ask.rows(most=33))
    body, expected = ask.choice(
        (
            (tail[:-1], Refusal(422, None, f"a multiple of {width} bytes")),
            (tail + b"\0\0\0\0", Refusal(422, None, f"a multiple of {width} bytes")),
            (b"", Refusal(400, None, "empty")),
            (bytes(width * (most + 1)), Refusal(413, None, str(most))),
        )
    )
    return ask.post(path(ask), body, expected, form=None, headers=[(HEADER, "0")])


@kind("hostile", 3)
def length_of_json_wrong(ask: Ask) -> Probe:
    """'inference header size should be in range' of Triton's http_server.cc: no number, or more than there is."""
    index = ask.rows()
    length = ask.choice((*NOT_LENGTHS, "99999999"))
    document = {"inputs": [tensor(ask, index, "binary")]}
    says = HEADER if length.isascii() else ""
    return infer(ask, document, Refusal(400, None, says), raw(ask, index), length=length)


@kind("hostile", 2)
def length_of_json_within_it(ask: Ask) -> Probe:
    """The header ends the JSON too early, or takes some of the bytes for JSON."""
    index = ask.rows()
    body = ask.text({"inputs": [tensor(ask, index, "binary")]}).strip()
    tail = b"\xff" + raw(ask, index)[1:]
    length = ask.choice((1, len(body) - 1, len(body) // 2, len(body) + 1, len(body) + len(tail)))
    return ask.post(path(ask), body + tail, Refusal(400), form=BYTES, headers=[(HEADER, str(length))])


@kind("hostile", 2)
def no_json(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_invalid_json of KServe; bytes behind the JSON that no header speaks of."""
    index = ask.rows(most=7)
    behind = ask.text({"inputs": [tensor(ask, index, "binary")]}) + b"\xff" + raw(ask, index)
    body = ask.choice((*native.BAD_TEXT, behind))
    return ask.post(path(ask), body, Refusal(400), form=ask.choice((JSON, None)))


@kind("hostile", 1)
def nested_too_deep(ask: Ask) -> Probe:
    """nested_json_crash.py of Triton's L0_http: as many lists in each other as the body's cap lets through."""
    depth = 30_000
    made = tensor(ask, ask.rows(most=1)) | {"data": Token("[" * depth + "1" + "]" * depth)}
    return infer(ask, {"inputs": [made]}, Refusal(400))


@kind("hostile", 2)
def keys_that_stand_twice(ask: Ask) -> Probe:
    """A key twice: which is meant, nobody can know; the place is the object that has it."""
    made = Members(tensor(ask, ask.rows(most=7)).items())
    document = Members([("id", "1"), ("inputs", [made]), ("parameters", Members([("a", 1), ("b", 2)]))])
    where, holder = ask.choice(((None, document), ("inputs[0]", made), ("parameters", document[2][1])))
    holder.append(ask.choice(holder))
    return infer(ask, document, Refusal(400, where, "stands twice"))


@kind("hostile", 1)
def numbers_that_json_has_not(ask: Ask) -> Probe:
    """NaN and Infinity are no JSON."""
    made = tensor(ask, ask.rows(most=7))
    made["data"][ask.random.randrange(len(made["data"]))] = Token(ask.choice(native.NOT_JSON))
    return infer(ask, {"inputs": [made]}, Refusal(400))
