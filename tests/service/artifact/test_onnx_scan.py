"""Tests of service.artifact.onnx_scan: only the content that export writes is accepted."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import MAX_FIELDS, MESSAGES, OPERATORS, REPEATED, scan_onnx
from tests.stored import FLOWERS, HOUSES

Fields = tuple[tuple[int, int | bytes], ...]
"""Number and value of each field of a Protocol Buffers message."""


def varint(value: int) -> bytes:
    """Encode an unsigned integer as a varint."""
    parts = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Encode a Protocol Buffers message of integers and length-delimited values."""
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


TENSOR: Fields = ((1, 2), (2, 1), (8, b"bias"), (9, bytes(8)))
"""Fields of an initializer: a dimension of 2, the dtype float32, the name and the data."""


def model(*graph: tuple[int, bytes], ir: int = 8, opset: int = 17, more: Fields = ()) -> bytes:
    """Encode a model with one initializer, plus further fields in its graph and in the model."""
    nodes = ((1, message((4, b"Relu"))), (5, message(*TENSOR)))
    return message((1, ir), (8, message((2, opset))), (7, message(*nodes, *graph)), *more)


def tensor(*fields: tuple[int, int | bytes]) -> bytes:
    """Encode a model with a second initializer, which has these fields."""
    return model((5, message(*fields)))


def test_allowed_operators_are_those_that_export_writes() -> None:
    """Every operator of the allow-list is used by the classifier or the regressor."""
    paths = [stored.artifact / manifest.MODEL for stored in (FLOWERS, HOUSES)]
    models = b"".join(path.read_bytes() for path in paths)
    assert [] == [name for name in OPERATORS if message((4, name.encode())) not in models]


def test_allowed_fields_are_those_of_onnx() -> None:
    """Number, name, type and repetition of each allowed field are those of the onnx package."""
    onnx = pytest.importorskip("onnx")
    pending, checked = [("model", onnx.ModelProto.DESCRIPTOR)], set()
    while pending:
        name, descriptor = pending.pop()
        checked.add(name)
        for number, (field_name, kind) in MESSAGES[name].items():
            field = descriptor.fields_by_number[number]
            assert field_name == field.name
            assert (field_name in REPEATED) == field.is_repeated
            assert (kind in MESSAGES) == (field.message_type is not None)
            if kind in MESSAGES and kind not in checked:
                pending.append((kind, field.message_type))
    assert set(MESSAGES) == checked


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (tensor(*TENSOR[:3], (13, b"")), "tensor contains external_data, which is not part of the"),
        (model(more=((25, b""),)), "model contains functions"),
        (model(more=((2003, b""),)), "model contains field 2003"),
        (model((1, message((5, message((6, b"")))))), "attribute contains a subgraph"),
        (model((1, message((4, b"Loop")))), "operator 'Loop' is not part of the format"),
        (model((1, message((4, b"Sub"), (7, b"com.x")))), "operator 'com.x::Sub' is not part of"),
        (model(ir=99), "IR version: expected [8], found [99]"),
        (model(opset=99), "opsets: expected [([''], [17])], found [([''], [99])]"),
        (model(more=((8, message((1, b"ml"), (2, 3))),)), "found [([''], [17]), (['ml'], [3])]"),
        (tensor((1, 2**64 - 1), *TENSOR[1:]), "'bias' declares shape (18446744073709551615,) but"),
        (tensor((1, 2), (2, 6), *TENSOR[2:]), "data type of 'bias': expected [1], found [6]"),
        (tensor(*TENSOR), "two tensors have the same name"),
        (b"", "contains no graph"),
        (model(more=((7, b""),)), "model.graph occurs twice"),
        (model(*[(1, message((4, b"Relu")))] * (MAX_FIELDS // 2)), f"at most {MAX_FIELDS} fields"),
        (model() + b"\x7a\x05", "model contains field 15"),
        (model()[:-1], "model.graph declares 30 bytes but is truncated"),
        (model() + b"\xff" * 20, "a number has more than ten bytes"),
        (model() + b"\xff" * 9 + b"\x7f", "a number has more than 64 bits"),
        (model() + b"\xff", "truncated within a number"),
        (model() + b"\x0b", "model.ir_version has wire type 3"),
    ],
)
def test_other_content_is_rejected(content: bytes, problem: str) -> None:
    """The scan rejects external data, code, other versions, wrong sizes and malformed encodings."""
    scan_onnx(model())
    with pytest.raises(ArtifactError, match=rf"^model\.onnx: .*{re.escape(problem)}"):
        scan_onnx(content)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_models_are_accepted_or_rejected(data: st.DataObject) -> None:
    """Random changes of the bytes raise no exception other than ArtifactError."""
    content = bytearray((FLOWERS.artifact / manifest.MODEL).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 8)))
        content[start:stop] = data.draw(st.binary(max_size=8))
    try:
        scan_onnx(bytes(content))
    except ArtifactError as error:
        assert str(error).startswith("model.onnx: ")
