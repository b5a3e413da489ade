"""Check the bytes of model.onnx against an allow-list before any library parses them.

ONNX files are Protocol Buffers (https://protobuf.dev/programming-guides/encoding/) with the field
numbers of onnx.proto. The scanner accepts only the fields that export writes. It rejects, for
example, external data (which can name any file on the machine), functions, subgraphs, sparse
tensors, metadata, and operators of other domains.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from service.artifact.manifest import IR_VERSION, MODEL, OPSET, ArtifactError

Tensors = dict[str, tuple[tuple[int, ...], memoryview]]
"""Shape and little-endian float32 bytes by tensor name."""
OPERATORS = frozenset({"Sub", "Mul", "Gemm", "Relu", "Add", "Softmax", "ArgMax"})
FLOAT = 1
"""Value of TensorProto.DataType.FLOAT."""
MAX_FIELDS = 10_000
"""Maximum number of fields in all messages of a file; export writes about 200."""
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "model": {
        1: ("ir_version", "int"), 2: ("producer_name", "text"),
        7: ("graph", "graph"), 8: ("opset_import", "opset"),
    },
    "opset": {1: ("domain", "text"), 2: ("version", "int")},
    "graph": {
        1: ("node", "node"), 2: ("name", "text"), 5: ("initializer", "tensor"),
        11: ("input", "value"), 12: ("output", "value"),
    },
    "node": {
        1: ("input", "text"), 2: ("output", "text"), 3: ("name", "text"),
        4: ("op_type", "text"), 5: ("attribute", "attribute"), 7: ("domain", "text"),
    },
    "attribute": {1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 20: ("type", "int")},
    "tensor": {
        1: ("dims", "int"), 2: ("data_type", "int"), 8: ("name", "text"), 9: ("raw_data", "bytes"),
    },
    "value": {1: ("name", "text"), 2: ("type", "type")},
    "type": {1: ("tensor_type", "tensor_type")},
    "tensor_type": {1: ("elem_type", "int"), 2: ("shape", "shape")},
    "shape": {1: ("dim", "dim")},
    "dim": {1: ("dim_value", "int"), 2: ("dim_param", "text")},
}  # fmt: skip
"""Name and type of each allowed field, by message and field number; a type may be a message."""
REPEATED = {"opset_import", "node", "initializer", "input", "output", "attribute", "dims", "dim"}
"""Names of the fields that may occur more than once in a message."""
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
"""Names of some rejected fields; error messages give the numbers of all other fields."""
WIRE_TYPES = {"int": 0, "float": 5}
"""Wire type by scalar type; all other types have wire type 2: a length, then the bytes."""


def scan_onnx(content: bytes) -> Tensors:
    """Return the initializers of model.onnx; raise ArtifactError if the content is not allowed."""
    try:
        model = _parse_message(memoryview(content), "model", itertools.count(1))
        if not model["graph"]:
            raise ValueError("contains no graph")
        graph = model["graph"][0]
        opsets = [(opset["domain"] or [""], opset["version"]) for opset in model["opset_import"]]
        _require_equal("IR version", [IR_VERSION], model["ir_version"])
        _require_equal("opsets", [([""], [OPSET])], opsets)
        for node in graph["node"]:
            operator = "::".join(filter(None, node["domain"] + node["op_type"]))
            if operator not in OPERATORS:
                raise ValueError(f"operator {operator[:40]!r} is not part of the format")
        initializers = [_tensor(tensor) for tensor in graph["initializer"]]
    except ValueError as error:
        raise ArtifactError(f"{MODEL}: {error}") from None
    tensors = dict(initializers)
    if len(tensors) != len(initializers):
        raise ArtifactError(f"{MODEL}: two tensors have the same name")
    return tensors


def _tensor(tensor: dict[str, list[Any]]) -> tuple[str, tuple[tuple[int, ...], memoryview]]:
    name, dims = "".join(tensor["name"]), tuple(tensor["dims"])
    data = tensor["raw_data"][0] if tensor["raw_data"] else memoryview(b"")
    _require_equal(f"data type of {name!r}", [FLOAT], tensor["data_type"])
    if 4 * math.prod(dims) != len(data):
        raise ValueError(f"{name!r} declares shape {dims} but has {len(data)} bytes")
    return name, (dims, data)


def _parse_message(data: memoryview, message: str, counter: Iterator[int]) -> dict[str, list[Any]]:
    """Return the values of a message by field name; MESSAGES has no cycle, so recursion ends."""
    fields: dict[str, list[Any]] = {name: [] for name, _ in MESSAGES[message].values()}
    offset = 0
    while offset < len(data):
        if next(counter) > MAX_FIELDS:
            raise ValueError(f"expected at most {MAX_FIELDS} fields, found more")
        key, offset = _parse_varint(data, offset)
        number, wire_type = key >> 3, key & 7
        if number not in MESSAGES[message]:
            field = FORBIDDEN.get((message, number), f"field {number}")
            raise ValueError(f"{message} contains {field}, which is not part of the format")
        name, kind = MESSAGES[message][number]
        if wire_type != WIRE_TYPES.get(kind, 2):
            raise ValueError(f"{message}.{name} has wire type {wire_type}")
        if fields[name] and name not in REPEATED:
            raise ValueError(f"{message}.{name} occurs twice")
        value: Any
        if kind == "int":
            value, offset = _parse_varint(data, offset)
        else:
            length, offset = (4, offset) if kind == "float" else _parse_varint(data, offset)
            value, offset = data[offset : offset + length], offset + length
            if offset > len(data):
                raise ValueError(f"{message}.{name} declares {length} bytes but is truncated")
        if kind in MESSAGES:
            value = _parse_message(value, kind, counter)
        fields[name].append(str(value, "utf-8") if kind == "text" else value)
    return fields


def _parse_varint(data: memoryview, offset: int) -> tuple[int, int]:
    """Return an unsigned integer of up to 64 bits and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise ValueError("truncated within a number")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise ValueError("a number has more than 64 bits")
            return value, offset
    raise ValueError("a number has more than ten bytes")


def _require_equal(subject: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise ValueError(f"{subject}: expected {expected}, found {actual}")
