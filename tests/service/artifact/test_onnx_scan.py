"""service.onnx_scan: reads what the protobuf library writes, and never anything but success or ArtifactError."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.proof.onnx_structure import prove_onnx
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import MAX_FIELDS, MESSAGES, OPERATORS, REPEATED, scan_onnx
from service.artifact.weights import read_tensors
from tests.stored import StoredArtifact


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_tensors_are_those_of_the_run(which: str, request: pytest.FixtureRequest) -> None:
    """Both formats read by hand: the names, shapes and bits that training wrote."""
    made: StoredArtifact = request.getfixturevalue(which)
    for found in (
        scan_onnx((made.artifact / manifest.MODEL).read_bytes()),
        read_tensors((made.artifact / manifest.WEIGHTS).read_bytes()),
    ):
        assert sorted(made.weights) == sorted(found)
        for name, (shape, data) in found.items():
            assert made.weights[name].shape == shape
            assert made.weights[name].tobytes() == data.tobytes()


def test_table_is_that_of_onnx() -> None:
    """Every field's number, name, form and repetition, held to the descriptors of the onnx package."""
    protos: dict[str, Any] = {
        "model": onnx.ModelProto,
        "opset": onnx.OperatorSetIdProto,
        "graph": onnx.GraphProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "tensor": onnx.TensorProto,
        "value": onnx.ValueInfoProto,
        "type": onnx.TypeProto,
        "tensor_type": onnx.TypeProto.Tensor,
        "shape": onnx.TensorShapeProto,
        "dim": onnx.TensorShapeProto.Dimension,
    }
    assert set(protos) == set(MESSAGES)
    for message, fields in MESSAGES.items():
        for number, (name, form) in fields.items():
            field = protos[message].DESCRIPTOR.fields_by_number[number]
            assert name == field.name
            assert (name in REPEATED) == field.is_repeated
            assert (form in MESSAGES) == (field.message_type is not None)
            if form in MESSAGES:
                assert protos[form].DESCRIPTOR is field.message_type


def test_operators_are_those_that_the_proof_expects(
    flowers: StoredArtifact, houses: StoredArtifact
) -> None:
    """Every operator that export writes, and no other."""
    written = set()
    for made in (flowers, houses):
        model = onnx.ModelProto.FromString((made.artifact / manifest.MODEL).read_bytes())
        written |= {node.op_type for node in model.graph.node}
    assert written == OPERATORS


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_models_are_read_or_refused(flowers: StoredArtifact, data: st.DataObject) -> None:
    """Bytes changed, cut out and put in anywhere: ArtifactError, or success, and nothing else."""
    content = bytearray((flowers.artifact / manifest.MODEL).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 8)))
        content[start:stop] = data.draw(st.binary(max_size=8))
    try:
        scan_onnx(bytes(content))
    except ArtifactError as error:
        assert str(error).startswith("model.onnx: ")


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_no_model(content: bytes) -> None:
    """No bytes but a model's pass."""
    with pytest.raises(ArtifactError, match=r"model\.onnx: "):
        scan_onnx(content)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_no_weights(content: bytes, length: int) -> None:
    """Whatever the header is, and whatever length it declares."""
    for made in (
        content,
        length.to_bytes(8, "little") + content,
        len(content).to_bytes(8, "little") + content,
    ):
        try:
            assert {} == read_tensors(made)
        except ArtifactError as error:
            assert str(error).startswith("weights.safetensors: ")


def repeated(content: bytes) -> bytes:
    """Repeat a graph, which protobuf would merge with the first."""
    return content + bytes(
        onnx.ModelProto(graph=onnx.GraphProto(name="second")).SerializeToString()
    )


def many(content: bytes) -> bytes:
    """Fill a graph with empty nodes, two bytes each."""
    return content + b"\x42\x00" * MAX_FIELDS


def twice(content: bytes) -> bytes:
    """Give two tensors one name."""
    model = onnx.ModelProto.FromString(content)
    model.graph.initializer.append(model.graph.initializer[0])
    serialized: bytes = model.SerializeToString()
    return serialized


def integers(content: bytes) -> bytes:
    """Make a tensor one of integers of the same size."""
    model = onnx.ModelProto.FromString(content)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(16, np.int32), tensor.name))
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (repeated, "model.graph stands twice"),
        (many, f"expected at most {MAX_FIELDS} fields, found more"),
        (twice, "two tensors of one name"),
        (integers, "type of 'net.linear1.bias': expected [1], found [6]"),
        (lambda content: content[:-1], "truncated"),
        (lambda content: content + b"\xff" * 20, "a number of more than ten bytes"),
        (lambda content: content + b"\xff" * 9 + b"\x7f", "a number of more than 64 bits"),
        (lambda content: content + b"\xff", "truncated within a number"),
        (lambda content: content + b"\x0b", "model.ir_version has wire type 3"),
        (
            lambda content: content + b"\x9a\x7d\x00",
            "model holds field 2003, no part of the format",
        ),
    ],
)
def test_what_protobuf_would_take_is_refused(
    flowers: StoredArtifact, edit: Callable[[bytes], bytes], message: str
) -> None:
    """Merged, repeated and unknown fields, groups, and numbers without an end."""
    with pytest.raises(ArtifactError, match=re.escape(message)):
        scan_onnx(edit((flowers.artifact / manifest.MODEL).read_bytes()))


def test_what_passes_the_structural_proof_passes_the_scan(flowers: StoredArtifact) -> None:
    """No file is refused by the service that export publishes."""
    content = (flowers.artifact / manifest.MODEL).read_bytes()
    prove_onnx(content, flowers.weights)
    scan_onnx(content)
