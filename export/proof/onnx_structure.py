"""TODO: export.proof.onnx_structure."""

from collections.abc import Iterable

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from export import ProofError
from export.proof.expected import (
    Weights,
    Wire,
    expected_wiring,
    require_equal,
    require_equal_bits,
    task_of,
)
from export.to_onnx import canonical, serialized
from service.artifact.manifest import INPUT, IR_VERSION, MODEL, OPSET, OUTPUTS


def prove_onnx(content: bytes, weights: Weights) -> None:
    """Hold model.onnx to the weights.

    Raises:
        ProofError: a tensor, an operator, an attribute, a wire or a version is not the expected one.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ProofError(f"{MODEL}: not an ONNX file: {error}") from None
    graph = model.graph
    task = task_of(weights)
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    require_equal("IR version", IR_VERSION, model.ir_version)
    require_equal("opsets", [("", OPSET)], opsets)
    require_equal(
        "functions and sparse tensors", 0, len(model.functions) + len(graph.sparse_initializer)
    )
    require_equal("metadata", 0, len(model.metadata_props) + len(graph.metadata_props))
    for tensor in graph.initializer:
        require_equal(
            f"data location of {tensor.name}", onnx.TensorProto.DEFAULT, tensor.data_location
        )
        require_equal(f"type of {tensor.name}", onnx.TensorProto.FLOAT, tensor.data_type)
    require_equal("count of initializers", len(weights), len(graph.initializer))
    require_equal_bits(
        MODEL, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}, weights
    )

    in_features, out_features = len(weights["shift"]), len(weights["net.linear2.bias"])
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    outputs = [
        (name, kinds[dtype], ["batch"] if name == "label" else ["batch", out_features])
        for name, dtype in OUTPUTS[task].items()
    ]
    require_equal(
        "inputs", [(INPUT, onnx.TensorProto.FLOAT, ["batch", in_features])], _signature(graph.input)
    )
    require_equal("outputs", outputs, _signature(graph.output))
    found: list[Wire] = [
        (
            f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
            tuple(node.input),
            tuple(node.output),
            {
                attribute.name: onnx.helper.get_attribute_value(attribute)
                for attribute in node.attribute
            },
        )
        for node in graph.node
    ]
    for node in graph.node:
        names = [attribute.name for attribute in node.attribute]
        require_equal(f"attributes of {node.op_type}", sorted(set(names)), names)
    expected = expected_wiring(task)
    require_equal("count of operators", len(expected), len(found))
    for number, (wanted, wire) in enumerate(zip(expected, found, strict=True), start=1):
        require_equal(f"operator {number}", wanted, wire)
    for (operator, _, _, attributes), node in zip(
        expected, graph.node, strict=True
    ):  # 1 is neither 1.0 nor 1 and more
        wrote = [onnx.helper.make_attribute(*attribute) for attribute in sorted(attributes.items())]
        require_equal(f"attributes of {operator}", wrote, list(node.attribute))
    # No metadata, documentation, repeated attribute or unknown field anywhere: nothing but the graph.
    if serialized(canonical(model)) != content:
        raise ProofError(f"{MODEL}: expected the canonical bytes of its graph, found others")


def _signature(values: Iterable[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]
