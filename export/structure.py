"""The structural proof: a file that passes holds exactly the trained network, bit for bit and wire for wire.

What remains to be shown is that a runtime evaluates it properly; that is export.verify's.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from export import ProofError
from export.to_onnx import canonical, serialized
from service.manifest import INPUT, IR_VERSION, MODEL, OPSET, OUTPUTS, TORCHSCRIPT

Weights = Mapping[str, NDArray[np.float32]]

Wire = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, float]]
"""An operator, its inputs, its outputs and its attributes."""

ATEN: dict[str, tuple[str, tuple[object, ...]]] = {
    "Sub": ("aten::sub", (1,)),
    "Mul": ("aten::mul", ()),
    "Add": ("aten::add", (1,)),
    "Gemm": ("aten::linear", ()),
    "Relu": ("aten::relu", ()),
    "Softmax": ("aten::softmax", (1, None)),
    "ArgMax": ("aten::argmax", (1, False)),
}
"""By ONNX operator: PyTorch's, and the constants that follow its tensors."""

GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def task_of(weights: Weights) -> str:
    """Tell the head from the tensors: only a regressor un-scales its output."""
    return "regression" if "output_scale" in weights else "classification"


def expected_names(task: str) -> set[str]:
    """Return the names of the tensors that a network has, no more and no fewer."""
    layers = {f"net.{layer}.{part}" for layer in ("linear1", "linear2") for part in ("weight", "bias")}
    head = {"output_scale", "output_shift"} if task == "regression" else set()
    return {"shift", "scale"} | layers | head


def expected_wiring(task: str) -> list[Wire]:
    """Derive the graph from the network's parts: scaling, two layers, head."""
    scores = "logits" if task == "classification" else "gemm_2"
    wires: list[Wire] = [
        ("Sub", (INPUT, "shift"), ("sub",), {}),
        ("Mul", ("sub", "scale"), ("mul",), {}),
        ("Gemm", ("mul", "net.linear1.weight", "net.linear1.bias"), ("gemm",), GEMM),
        ("Relu", ("gemm",), ("relu",), {}),
        ("Gemm", ("relu", "net.linear2.weight", "net.linear2.bias"), (scores,), GEMM),
    ]
    if task == "classification":
        return [
            *wires,
            ("Softmax", ("logits",), ("probabilities",), {"axis": 1}),
            ("ArgMax", ("logits",), ("label",), {"axis": 1, "keepdims": 0, "select_last_index": 0}),
        ]
    return [
        *wires,
        ("Mul", ("gemm_2", "output_scale"), ("mul_2",), {}),
        ("Add", ("mul_2", "output_shift"), ("output",), {}),
    ]


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
    _equal("IR version", IR_VERSION, model.ir_version)
    _equal("opsets", [("", OPSET)], opsets)
    _equal("functions and sparse tensors", 0, len(model.functions) + len(graph.sparse_initializer))
    _equal("metadata", 0, len(model.metadata_props) + len(graph.metadata_props))
    for tensor in graph.initializer:
        _equal(f"data location of {tensor.name}", onnx.TensorProto.DEFAULT, tensor.data_location)
        _equal(f"type of {tensor.name}", onnx.TensorProto.FLOAT, tensor.data_type)
    _equal("count of initializers", len(weights), len(graph.initializer))
    _bits_equal(MODEL, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}, weights)

    in_features, out_features = len(weights["shift"]), len(weights["net.linear2.bias"])
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    outputs = [
        (name, kinds[dtype], ["batch"] if name == "label" else ["batch", out_features])
        for name, dtype in OUTPUTS[task].items()
    ]
    _equal("inputs", [(INPUT, onnx.TensorProto.FLOAT, ["batch", in_features])], _signature(graph.input))
    _equal("outputs", outputs, _signature(graph.output))
    found: list[Wire] = [
        (
            f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
            tuple(node.input),
            tuple(node.output),
            {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
        )
        for node in graph.node
    ]
    for node in graph.node:
        names = [attribute.name for attribute in node.attribute]
        _equal(f"attributes of {node.op_type}", sorted(set(names)), names)
    expected = expected_wiring(task)
    _equal("count of operators", len(expected), len(found))
    for number, (wanted, wire) in enumerate(zip(expected, found, strict=True), start=1):
        _equal(f"operator {number}", wanted, wire)
    for (operator, _, _, attributes), node in zip(expected, graph.node, strict=True):  # 1 is neither 1.0 nor 1 and more
        wrote = [onnx.helper.make_attribute(*attribute) for attribute in sorted(attributes.items())]
        _equal(f"attributes of {operator}", wrote, list(node.attribute))
    # No metadata, documentation, repeated attribute or unknown field anywhere: nothing but the graph.
    if serialized(canonical(model)) != content:
        raise ProofError(f"{MODEL}: expected the canonical bytes of its graph, found others")


def prove_torchscript(module: torch.jit.ScriptModule, weights: Weights) -> None:
    """Hold a loaded model.torchscript.pt to the weights.

    Raises:
        ProofError: a parameter, a buffer or an operator is not the expected one.
    """
    hooks = [*module._c._get_forward_hooks(), *module._c._get_forward_pre_hooks()]
    _equal(f"{TORCHSCRIPT}: hooks", [], hooks)
    for name, tensor in module.state_dict().items():
        _equal(f"{TORCHSCRIPT}: type of {name}", torch.float32, tensor.dtype)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    _bits_equal(TORCHSCRIPT, tensors, weights)
    expected = expected_wiring(task_of(weights))
    wires, returned = _torchscript_wiring(module.inlined_graph, [outputs[0] for _, _, outputs, _ in expected])
    _equal(f"{TORCHSCRIPT}: count of operators", len(expected), len(wires))
    for number, ((op, inputs, outputs, _), found) in enumerate(zip(expected, wires, strict=True), start=1):
        kind, constants = ATEN[op]
        named = tuple(f".{name}" if name in weights else name for name in inputs)
        _equal(f"{TORCHSCRIPT}: operator {number}", (kind, (*named, *constants), outputs[0]), found)
    _equal(f"{TORCHSCRIPT}: returned values", list(OUTPUTS[task_of(weights)]), returned)


def _torchscript_wiring(
    graph: torch._C.Graph, names: list[str]
) -> tuple[list[tuple[str, tuple[object, ...], str]], list[str]]:
    """Read a straight-line graph as operators with their inputs resolved, and the names it returns.

    Tensors of the module are called by their path after a dot, so that none can pass for a wire; constants by their
    value, and the result of the n-th operator by the n-th of names.
    """
    module, rows = graph.inputs()
    known: dict[str, object] = {module.debugName(): "", rows.debugName(): INPUT}
    wires: list[tuple[str, tuple[object, ...], str]] = []
    for node in graph.nodes():
        kind = node.kind()
        _equal(f"{TORCHSCRIPT}: outputs and blocks of {kind}", (1, 0), (node.outputsSize(), len(list(node.blocks()))))
        inputs = tuple(known[value.debugName()] for value in node.inputs())
        output = node.output().debugName()
        match kind:
            case "prim::Constant":
                known[output] = node.output().toIValue()
            case "prim::GetAttr":
                known[output] = f"{inputs[0]}.{node.s('name')}"
            case "prim::TupleConstruct":
                known[output] = inputs
            case _:
                known[output] = names[len(wires)] if len(wires) < len(names) else output
                wires.append((kind, inputs, str(known[output])))
    [returned] = [known[value.debugName()] for value in graph.outputs()]
    return wires, [str(value) for value in returned] if isinstance(returned, tuple) else [str(returned)]


def _signature(values: Iterable[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def _bits_equal(file: str, found: Mapping[str, NDArray[np.float32]], weights: Weights) -> None:
    names = expected_names(task_of(weights))
    _equal("tensors of the run", sorted(names), sorted(weights))
    _equal(f"{file}: tensors", sorted(names), sorted(found))
    for name in sorted(names):
        _equal(f"{file}: shape of {name}", weights[name].shape, found[name].shape)
        differ = np.flatnonzero(weights[name].view(np.uint32).ravel() != found[name].view(np.uint32).ravel())
        if differ.size:
            first = np.unravel_index(differ[0], weights[name].shape)
            raise ProofError(
                f"{file}: {name}: {differ.size} of {weights[name].size} values differ from the run's, the first at "
                f"{[int(i) for i in first]}: expected {weights[name][first]!r}, found {found[name][first]!r}"
            )


def _equal(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise ProofError(f"{what}: expected {expected}, found {found}")
