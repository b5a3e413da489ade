"""What a model.onnx may hold, read from its bytes before any library parses them. The standard library alone.

ONNX is Protocol Buffers (https://protobuf.dev/programming-guides/encoding/); the numbers below are those of
onnx.proto. Every field that this project's files do not need is refused: external data, which names files of
the machine; functions, subgraphs and sparse tensors; metadata; operators of other domains.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from service.artifact.manifest import IR_VERSION, MODEL, OPSET, ArtifactError

Tensors = dict[str, tuple[tuple[int, ...], memoryview]]
"""By name: shape, and little-endian float32 bytes."""
OPERATORS = frozenset({"Sub", "Mul", "Gemm", "Relu", "Add", "Softmax", "ArgMax"})
FLOAT = 1
"""TensorProto.DataType.FLOAT."""
MAX_FIELDS = 10_000
"""Fields in all the messages of a file; the largest that export writes has some 200."""
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "model": {
        1: ("ir_version", "int"),
        2: ("producer_name", "text"),
        7: ("graph", "graph"),
        8: ("opset_import", "opset"),
    },
    "opset": {1: ("domain", "text"), 2: ("version", "int")},
    "graph": {
        1: ("node", "node"),
        2: ("name", "text"),
        5: ("initializer", "tensor"),
        11: ("input", "value"),
        12: ("output", "value"),
    },
    "node": {
        1: ("input", "text"),
        2: ("output", "text"),
        3: ("name", "text"),
        4: ("op_type", "text"),
        5: ("attribute", "attribute"),
        7: ("domain", "text"),
    },
    "attribute": {1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 20: ("type", "int")},
    "tensor": {
        1: ("dims", "int"),
        2: ("data_type", "int"),
        8: ("name", "text"),
        9: ("raw_data", "bytes"),
    },
    "value": {1: ("name", "text"), 2: ("type", "type")},
    "type": {1: ("tensor_type", "tensor_type")},
    "tensor_type": {1: ("elem_type", "int"), 2: ("shape", "shape")},
    "shape": {1: ("dim", "dim")},
    "dim": {1: ("dim_value", "int"), 2: ("dim_param", "text")},
}
"""By message, then by field number: its name, and a wire form or the message that it holds."""
REPEATED = {"opset_import", "node", "initializer", "input", "output", "attribute", "dims", "dim"}
FORBIDDEN = {
    ("model", 14): "metadata_props",
    ("model", 20): "training_info",
    ("model", 25): "functions",
    ("graph", 15): "sparse_initializer",
    ("attribute", 5): "a tensor",
    ("attribute", 6): "a subgraph",
    ("attribute", 11): "subgraphs",
    ("tensor", 13): "external_data",
    ("tensor", 14): "data_location",
}
"""Names for messages; every other field that is not in MESSAGES is refused by its number."""
WIRE_TYPES = {"int": 0, "float": 5}
"""Wire types by form; 2, a length and as many bytes, for the rest."""


def scan_onnx(content: bytes) -> Tensors:
    """Return the tensors of a model.onnx that holds nothing but what the format allows.

    Raises:
        ArtifactError: it holds something else; the message names it.
    """
    try:
        model = _message(memoryview(content), "model", itertools.count(1))
        if not model["graph"]:
            raise ValueError("holds no graph")
        graph = model["graph"][0]
        opsets = [(o["domain"] or [""], o["version"]) for o in model["opset_import"]]
        _expect("IR version", [IR_VERSION], model["ir_version"])
        _expect("opsets", [([""], [OPSET])], opsets)
        for node in graph["node"]:
            operator = "::".join(filter(None, node["domain"] + node["op_type"]))
            if operator not in OPERATORS:
                raise ValueError(f"operator {operator[:40]!r} is no part of the format")
        tensors = [_tensor(tensor) for tensor in graph["initializer"]]
    except ValueError as error:
        raise ArtifactError(f"{MODEL}: {error}") from None
    if len(tensors) != len(found := dict(tensors)):
        raise ArtifactError(f"{MODEL}: two tensors of one name")
    return found


def _tensor(tensor: dict[str, list[Any]]) -> tuple[str, tuple[tuple[int, ...], memoryview]]:
    name, dims = "".join(tensor["name"]), tuple(tensor["dims"])
    data = tensor["raw_data"][0] if tensor["raw_data"] else memoryview(b"")
    _expect(f"type of {name!r}", [FLOAT], tensor["data_type"])
    if 4 * math.prod(dims) != len(data):
        raise ValueError(f"{name!r} declares the shape {dims} and holds {len(data)} bytes")
    return name, (dims, data)


def _message(data: memoryview, kind: str, count: Iterator[int]) -> dict[str, list[Any]]:
    """Read one message as lists of values by field name; MESSAGES, which has no cycle, bounds the depth."""
    found: dict[str, list[Any]] = {name: [] for name, _ in MESSAGES[kind].values()}
    at = 0
    while at < len(data):
        if next(count) > MAX_FIELDS:
            raise ValueError(f"expected at most {MAX_FIELDS} fields, found more")
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number not in MESSAGES[kind]:
            raise ValueError(
                f"{kind} holds {FORBIDDEN.get((kind, number), f'field {number}')}, no part of the format"
            )
        name, form = MESSAGES[kind][number]
        if wire != WIRE_TYPES.get(form, 2):
            raise ValueError(f"{kind}.{name} has wire type {wire}")
        if found[name] and name not in REPEATED:
            raise ValueError(f"{kind}.{name} stands twice")
        value: Any
        if form == "int":
            value, at = _varint(data, at)
        else:
            length, at = (4, at) if form == "float" else _varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError(f"{kind}.{name} declares {length} bytes and is truncated")
        if form in MESSAGES:
            value = _message(value, form, count)
        found[name].append(str(value, "utf-8") if form == "text" else value)
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an unsigned integer of up to 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("truncated within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise ValueError("a number of more than 64 bits")
            return value, at
    raise ValueError("a number of more than ten bytes")


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise ValueError(f"{what}: expected {expected}, found {found}")
