"""POST /v2/models/M/infer: the Open Inference Protocol V2, except the input tensor.

The kinds repeat the negative cases of Triton (qa/L0_http, qa/L0_input_validation,
src/http_server.cc), KServe (python/kserve/test) and MLServer (tests/rest), and cite them by name.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from tests.conformance.draw import Case, Draw, Headers, kind
from tests.conformance.json_text import Members, Raw
from tests.conformance.kinds.json_rows import CONTENT_TYPES, NOT_JSON
from tests.conformance.outcomes import BYTES, CSV, JSON, ErrorReply, Outcome
from tests.conformance.predictions import Tensors
from tests.conformance.served import Index

Form = Literal["flat", "nested", "binary"]
JSON_LENGTH = "Inference-Header-Content-Length"
IDS = (
    *("1", "", "4be4e82f-5500-420a-a5c5-ac86841e271b", "caf\u00e9", "a" * 300),
    *("\u2028 \U0001f600", 'q"u\\o'),
)
NOT_BOOLEANS = ("true", 1, 0, "", 1.5)
WRONG_VALUES: dict[str, Sequence[Any]] = {
    "id": (1, 1.5, [], {}, True),
    "model_name": ("TestModel", "", 1, "../x"),
    "outputs": ({}, "all", 1),
    "outputs[0]": ("label", {}),
    "outputs[0].parameters.binary_data": NOT_BOOLEANS,
    "outputs[0].parameters.classification": (2,),
    "outputs[0].parameters.shared_memory_region": ("x",),
    "inputs[0].parameters.shared_memory_region": ("x",),
    "parameters": ([], 1, "a", [{}]),
    "parameters.a": ([], {}, [1], Raw("NaN")),
    "parameters.binary_data_output": NOT_BOOLEANS,
    "parameters.sequence_id": (7,),
    "parameters.sequence_start": (True,),
}
"""Wrong values by their place; some are Triton's extensions, which the service rejects."""
KSERVE_PARAMETERS = {"test-str": "dummy", "test-bool": True, "test-int": 100, "test-float": 1.3}


def v2_path(draw: Draw) -> str:
    """Return the V2 path that accepts predictions, with or without the version."""
    version = draw.choice(("", f"/versions/{draw.model.version}"))
    return f"/v2/models/{draw.model.name}{version}/infer"


def tensor(draw: Draw, index: Index, form: Form = "flat") -> dict[str, Any]:
    """Return the input tensor with some rows, as flat, nested or binary data."""
    shape = [len(index), len(draw.model.features)]
    members: dict[str, Any] = {"name": "input", "shape": shape, "datatype": "FP32"}
    if form == "binary":
        return members | {"parameters": {"binary_data_size": 4 * shape[0] * shape[1]}}
    rows = draw.cells(index)
    return members | {"data": rows if form == "nested" else [cell for row in rows for cell in row]}


def all_outputs(draw: Draw, index: Index, *, binary: bool = False) -> Tensors:
    """Return the expected reply with every output, all binary or all JSON."""
    return Tensors(draw.model, index, dict.fromkeys(draw.model.outputs, binary))


def infer(
    draw: Draw,
    document: Any,
    outcome: Outcome,
    tail: bytes | None = None,
    *,
    content_type: str | None = JSON,
    headers: Headers = (),
    length: str | None = None,
) -> Case:
    """Send a document; if there is a tail, append it and send the header with the JSON's length."""
    body = draw.json(document)
    if tail is not None:
        headers = [*headers, (JSON_LENGTH, str(len(body)) if length is None else length)]
        content_type = draw.choice((BYTES, None, JSON)) if content_type == JSON else content_type
    body += tail or b""
    return draw.post(v2_path(draw), body, outcome, content_type=content_type, headers=headers)


def reject_tensor(draw: Draw, tensor: Any, place: str, text: str = "") -> Case:
    """Send an input tensor that is wrong at the given place within it."""
    return infer(draw, {"inputs": [tensor]}, ErrorReply(422, f"inputs[0]{place}", text))


def reject_change(
    draw: Draw,
    changes: dict[str, Any],
    place: str,
    text: str = "",
    *,
    form: Form = "flat",
    status: int = 422,
) -> Case:
    """Send an input tensor with changed members; the value Ellipsis removes a member."""
    index = draw.index()
    members = (tensor(draw, index, form) | changes).items()
    changed = draw.shuffled((name, value) for name, value in members if value is not ...)
    tail = draw.float32(index) if form == "binary" else None
    outcome = ErrorReply(status, f"inputs[0]{place}", text)
    return infer(draw, {"inputs": [changed]}, outcome, tail)


@kind("valid", 12)
def json_tensors(draw: Draw) -> Case:
    """Flat or nested JSON data; the reply has all outputs and the request's id."""
    index, request_id = draw.index(), draw.choice((None, *IDS))
    members = tensor(draw, index, draw.choice(("flat", "nested")))
    document: dict[str, Any] = {"inputs": [draw.shuffled(members.items())]}
    document |= {} if request_id is None else {"id": request_id}
    document |= {"model_name": draw.model.name} if draw.chance(0.3) else {}  # As KServe's client.
    outcome = Tensors(draw.model, index, dict.fromkeys(draw.model.outputs, False), request_id)
    content_type = draw.choice(CONTENT_TYPES)
    return infer(draw, draw.shuffled(document.items()), outcome, content_type=content_type)


@kind("valid", 2)
def null_members(draw: Draw) -> Case:
    """Null for optional members and for parameters, as clients with typed requests send it."""
    index = draw.index()
    parameters = dict.fromkeys(("binary_data_output", "sequence_id", "priority"))
    document: dict[str, Any] = dict.fromkeys(("id", "outputs", "model_name"))
    document["parameters"] = draw.choice((None, parameters))
    members = tensor(draw, index) | {"parameters": draw.choice((None, {"binary_data_size": None}))}
    document["inputs"] = [draw.shuffled(members.items())]
    return infer(draw, draw.shuffled(document.items()), all_outputs(draw, index))


@kind("valid", 8)
def selected_outputs(draw: Draw) -> Case:
    """Some outputs in any order, as JSON or binary (test_binary_data_parameter_precedence)."""
    index, form = draw.index(), draw.choice(("flat", "nested", "binary"))
    names = list(draw.model.outputs)
    names = draw.random.sample(names, draw.random.randint(1, len(names)))
    default = draw.choice((None, None, True, False))
    outputs, binary = [], {}
    for name in names:
        own = draw.choice((None, True, False))
        parameters = {} if own is None else {"parameters": {"binary_data": own}}
        outputs.append({"name": name, **parameters})
        binary[name] = bool(default) if own is None else own
    document: dict[str, Any] = {"inputs": [tensor(draw, index, form)], "outputs": outputs}
    if default is not None:
        document["parameters"] = {"binary_data_output": default}
    tail = draw.float32(index) if form == "binary" else None
    return infer(draw, draw.shuffled(document.items()), Tensors(draw.model, index, binary), tail)


@kind("valid", 3)
def fewest_and_most_rows(draw: Draw) -> Case:
    """No rows, as JSON or binary data, or as many rows as the limit allows."""
    none, most = draw.index()[:0], draw.index(at_least=draw.model.max_rows)
    index, form = draw.choice(((none, "flat"), (none, "binary"), (most, "binary")))
    document = {"inputs": [tensor(draw, index, form)], "outputs": []}
    tail = draw.float32(index) if form == "binary" else None
    return infer(draw, document, all_outputs(draw, index), tail)


@kind("valid", 2)
def harmless_options(draw: Draw) -> Case:
    """Unknown parameters (KServe's test_infer_parameters_v2), and Accept with the reply's type."""
    index, binary = draw.index(), draw.chance(0.5)
    several = ("*/*", "application/*", f"{BYTES}, {JSON};q=0.5", "text/html, */*;q=0.2")
    headers = [("Accept", draw.choice((*several, BYTES if binary else JSON)))]
    document = {
        "inputs": [tensor(draw, index) | {"parameters": KSERVE_PARAMETERS}],
        "outputs": [{"name": n, "parameters": KSERVE_PARAMETERS} for n in draw.model.outputs],
        "parameters": KSERVE_PARAMETERS | {"binary_data_output": binary},
    }
    return infer(draw, document, all_outputs(draw, index, binary=binary), headers=headers)


@kind("nearly valid", 2, variants=("Accept", "Content-Type"))
def media_type(draw: Draw, variant: str) -> Case:
    """An Accept that excludes JSON, or a wrong Content-Type (bytes need the JSON length header)."""
    document = {"inputs": [tensor(draw, draw.index())]}
    if variant == "Accept":
        accept = draw.choice((CSV, "text/html", "image/*", "application/json;q=0"))
        return infer(draw, document, ErrorReply(406), headers=[("Accept", accept)])
    types = (CSV, "text/plain", BYTES, "application/avro", "application/cloudevents+json")
    return infer(draw, document, ErrorReply(415, None, JSON), content_type=draw.choice(types))


@kind("nearly valid", 3)
def wrong_inputs(draw: Draw) -> Case:
    """Inputs that are not a list of one object (Triton's test_input_validation_required_empty)."""
    one = tensor(draw, draw.index(at_most=7))
    inputs: Any = ([], [one, one], [one, one | {"name": "b"}], [{}] * 1000, "invalid", None, one, 1)
    no_objects: Any = [{"inputs": [value]} for value in (1, "a", None, True)]
    documents: Any = ({}, {"outputs": []}, {"id": "1"}, {"Inputs": []}, [], 1, "a", None, [{}])
    wrong = (
        ({"inputs": draw.choice(inputs)}, ErrorReply(422, "inputs", "one input")),
        (draw.choice(no_objects), ErrorReply(422, "inputs[0]", "an object")),
        (draw.choice(documents), ErrorReply(422)),
    )
    return infer(draw, *draw.choice(wrong))


@kind("nearly valid", 2, variants=("twice", "unknown"))
def output(draw: Draw, variant: str) -> Case:
    """A repeated output (test_duplicate_output_names, CVE-2025-23310) or an unknown output."""
    others: Any = ("OUTPUT0", "Label", "", None, 1, "input", "logits ", [], "x" * 5000)
    names: list[Any] = list(draw.model.outputs)
    name, text = (names[0], names[0]) if variant == "twice" else (draw.choice(others), "one of")
    i = draw.random.randrange(1, len(names) + 1)
    names.insert(i, name)
    repetitions = draw.choice((1, 1, 100)) if variant == "twice" else 1
    outputs = [{"name": name} for name in names] * repetitions
    document = {"inputs": [tensor(draw, draw.index(at_most=7))], "outputs": outputs}
    return infer(draw, document, ErrorReply(422, f"outputs[{i}].name", text))


@kind("nearly valid", 1, variants=WRONG_VALUES)
def wrong(draw: Draw, variant: str) -> Case:
    """A document with one wrong value."""
    name = next(iter(draw.model.outputs))
    document: Any = {"inputs": [tensor(draw, draw.index())], "outputs": [{"name": name}]}
    *keys, last = (int(key) if key.isdecimal() else key for key in re.findall(r"\w+", variant))
    parent = document
    for key in keys:
        parent = parent[key] if isinstance(parent, list) else parent.setdefault(key, {})
    parent[last] = draw.choice(WRONG_VALUES[variant])
    return infer(draw, document, ErrorReply(422, variant))


@kind("hostile", 2)
def body_that_is_not_json(draw: Draw) -> Case:
    """Invalid JSON (KServe's test_..._invalid_json), or a tail without the length header."""
    index = draw.index(at_most=7)
    document = draw.json({"inputs": [tensor(draw, index, "binary")]})
    body = draw.choice((*NOT_JSON, document + b"\xff" + draw.float32(index)))
    content_type = draw.choice((JSON, None))
    return draw.post(v2_path(draw), body, ErrorReply(400), content_type=content_type)


@kind("hostile", 2, variants=("unknown", "twice"))
def member(draw: Draw, variant: str) -> Case:
    """An unknown member, or the same member twice."""
    tensor_members = Members(tensor(draw, draw.index(at_most=7)).items())
    output = Members([("name", next(iter(draw.model.outputs)))])
    document = Members([("id", "1"), ("inputs", [tensor_members]), ("outputs", [output])])
    places = ((None, document), ("inputs[0]", tensor_members), ("outputs[0]", output))
    where, changed = draw.choice(places)
    unknown = (draw.choice(("versions", "Data", "dtype", "", "x" * 500)), 1)
    added = unknown if variant == "unknown" else draw.choice(changed)
    changed.append(added)
    twice = ErrorReply(400, where, f'"{added[0]}"')
    return infer(draw, document, ErrorReply(422, where) if variant == "unknown" else twice)
