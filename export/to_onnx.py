"""Export a network as model.onnx, with equal bytes for equal networks.

torch.onnx.export writes absolute source paths, its own version and generated names into the file.
This module removes them.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch

from model.net import ScaledClassifier, ScaledNet
from service.artifact.manifest import INPUT, IR_VERSION, OPSET, OUTPUTS

PRODUCER_NAME = "twolayernet"


def to_onnx(net: ScaledNet) -> bytes:
    """Return model.onnx for a network in eval mode, with a dynamic batch dimension."""
    task = "classification" if isinstance(net, ScaledClassifier) else "regression"
    with _quiet():
        program = torch.onnx.export(
            net,
            # The exporter would treat a batch size of 1 as constant.
            (torch.zeros(2, len(net.shift)),),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS[task]),
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return serialized(canonical(program.model_proto))


def serialized(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model; equal models give equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without metadata, tool versions, paths, documentation and generated names."""
    source = model.graph
    names = _wire_names(source)
    nodes = []
    for node in source.node:
        copy = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        copy.input.extend(names.get(value, value) for value in node.input)
        copy.output.extend(names.get(value, value) for value in node.output)
        copy.name = copy.output[0]
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            copy.attribute.append(attribute)
            copy.attribute[-1].ClearField("doc_string")
        nodes.append(copy)
    initializers = [
        onnx.TensorProto(name=t.name, data_type=t.data_type, dims=t.dims, raw_data=t.raw_data)
        for t in sorted(source.initializer, key=lambda tensor: tensor.name)
    ]
    inputs = [onnx.helper.make_tensor_value_info(*signature(v)) for v in source.input]
    outputs = [onnx.helper.make_tensor_value_info(*signature(v)) for v in source.output]
    graph = onnx.helper.make_graph(nodes, PRODUCER_NAME, inputs, outputs, initializers)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(
        graph, producer_name=PRODUCER_NAME, ir_version=IR_VERSION, opset_imports=opset
    )


def _wire_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Return new names of the internal values, after their operators: sub, mul, gemm, gemm_2."""
    public_names = {value.name for value in (*graph.input, *graph.initializer, *graph.output)}
    names: dict[str, str] = {}
    for node in graph.node:
        for output in node.output:
            if output not in public_names:
                operator = node.op_type.lower()
                count = sum(name.split("_")[0] == operator for name in names.values())
                names[output] = f"{operator}_{count + 1}" if count else operator
    return names


def signature(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
    """Return the name, the element type and the shape of an input or output."""
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return value.name, tensor.elem_type, shape


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns that it converts the graph from opset 18 to opset 17.

    export.proof.onnx_structure checks every operator of the result.
    """
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
