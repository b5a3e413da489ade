"""The structural proof of model.onnx: it holds exactly the expected tensors and operators."""

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from export.errors import ProofError
from export.proof.expected import Weights, compare_bits, expected_operators, require_equal, task_of
from export.to_onnx import canonical, serialized, signature
from service.artifact.manifest import INPUT, IR_VERSION, MODEL, OPSET, OUTPUTS

ONNX_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def prove_onnx(content: bytes, weights: Weights) -> None:
    """Raise ProofError unless model.onnx is the network of these weights, and nothing else."""
    model = parse_onnx(content)
    check_structure(model, weights)
    check_canonical_bytes(model, content)


def parse_onnx(content: bytes) -> onnx.ModelProto:
    """Parse model.onnx; raise ProofError if it is not an ONNX file."""
    try:
        return onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ProofError(f"{MODEL}: not an ONNX file: {error}") from None


def check_structure(model: onnx.ModelProto, weights: Weights) -> None:
    """Raise ProofError unless versions, tensors, inputs, outputs and operators are as expected."""
    graph, task = model.graph, task_of(weights)
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    require_equal("IR version", IR_VERSION, model.ir_version)
    require_equal("opsets", [("", OPSET)], opsets)
    functions_and_tensors = len(model.functions) + len(graph.sparse_initializer)
    require_equal("functions and sparse tensors", 0, functions_and_tensors)
    require_equal("metadata", 0, len(model.metadata_props) + len(graph.metadata_props))

    for tensor in graph.initializer:
        require_equal(f"data location of {tensor.name}", TensorProto.DEFAULT, tensor.data_location)
        require_equal(f"type of {tensor.name}", TensorProto.FLOAT, tensor.data_type)
    require_equal("count of initializers", len(weights), len(graph.initializer))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    compare_bits(MODEL, tensors, weights)

    in_features, out_features = len(weights["shift"]), len(weights["net.linear2.bias"])
    inputs = [(INPUT, TensorProto.FLOAT, ["batch", in_features])]
    outputs = [
        (name, ONNX_TYPES[dtype], ["batch"] if name == "label" else ["batch", out_features])
        for name, dtype in OUTPUTS[task].items()
    ]
    require_equal("inputs", inputs, [signature(value) for value in graph.input])
    require_equal("outputs", outputs, [signature(value) for value in graph.output])
    _check_operators(graph, task)


def check_canonical_bytes(model: onnx.ModelProto, content: bytes) -> None:
    """Raise ProofError if model.onnx holds documentation, metadata or unknown fields."""
    if serialized(canonical(model)) != content:
        raise ProofError(f"{MODEL}: expected the canonical bytes of its graph, found others")


def _check_operators(graph: onnx.GraphProto, task: str) -> None:
    expected = expected_operators(task)
    require_equal("count of operators", len(expected), len(graph.node))
    for number, (operator, node) in enumerate(zip(expected, graph.node, strict=True), start=1):
        names = [attribute.name for attribute in node.attribute]
        require_equal(f"attributes of {node.op_type}", sorted(set(names)), names)
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        actual = (kind, tuple(node.input), tuple(node.output), values)
        require_equal(f"operator {number}", operator, actual)
        # Equal values do not suffice: 1 equals 1.0, and get_attribute_value ignores other fields.
        messages = [onnx.helper.make_attribute(*item) for item in sorted(operator[3].items())]
        require_equal(f"attributes of {kind}", messages, list(node.attribute))
