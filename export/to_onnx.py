"""A ScaledNet as one canonical, single-file, path-free model.onnx.

torch.onnx.export writes the absolute paths of this machine's sources, its own version and generated
names into the file; what leaves here holds none of them, so equal networks give equal bytes.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch

from model.net import ScaledClassifier, ScaledNet
from service.artifact.manifest import INPUT, IR_VERSION, OPSET, OUTPUTS

PRODUCER = "twolayernet"


def to_onnx(net: ScaledNet) -> bytes:
    """Export net, in eval mode on the CPU, with a free batch dimension."""
    task = "classification" if isinstance(net, ScaledClassifier) else "regression"
    example = torch.zeros(2, len(net.shift))  # a batch of 1 would be taken for a constant
    with _quiet():
        program = torch.onnx.export(
            net,
            (example,),
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
    """Return the bytes of a model: the same for equal models."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with nothing in it but the graph: no metadata, versions, paths or generated names."""
    source = model.graph
    kept = {value.name for value in (*source.input, *source.initializer, *source.output)}
    # A value is named for the operator that makes it: sub, mul, gemm, relu, gemm_2 ...
    names: dict[str, str] = {}
    for node in source.node:
        for output in node.output:
            if output not in kept:
                base = node.op_type.lower()
                count = sum(name.split("_")[0] == base for name in names.values())
                names[output] = f"{base}_{count + 1}" if count else base
    nodes = []
    for node in source.node:
        made = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        made.input.extend(names.get(value, value) for value in node.input)
        made.output.extend(names.get(value, value) for value in node.output)
        made.name = made.output[0]
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            made.attribute.append(attribute)
            made.attribute[-1].ClearField("doc_string")
        nodes.append(made)
    initializers = [
        onnx.TensorProto(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=tensor.raw_data
        )
        for tensor in sorted(source.initializer, key=lambda tensor: tensor.name)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        PRODUCER,
        [_plain(value) for value in source.input],
        [_plain(value) for value in source.output],
        initializers,
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(
        graph, producer_name=PRODUCER, ir_version=IR_VERSION, opset_imports=opset
    )


def _plain(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its detour: it writes opset 18 and converts to 17, operator for operator.

    What it wrote is not taken on trust: export.structure holds every operator of the file to the network.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
