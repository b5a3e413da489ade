"""Mutants of model.onnx."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx import serialized
from service.artifact import manifest
from tests.mutants.subject import DoesNotApplyError, Kind, Mutant, Subject, defer
from tests.mutants.tensors import B1, COMMON, W1, W2, Change, Floats, apply_change

Edit = Callable[[onnx.ModelProto], object]


def edit_graph(edit: Edit) -> Callable[[Subject], Subject]:
    """Return a mutation of the parsed model.onnx."""

    def apply(subject: Subject) -> Subject:
        model = onnx.load_model_from_string(subject.files[manifest.MODEL])
        edit(model)
        return subject.replaced(MODEL=serialized(model))

    return apply


def tensors(model: onnx.ModelProto) -> dict[str, Floats]:
    """Return the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """Return the initializer of this name."""
    for initializer in list[onnx.TensorProto](model.graph.initializer):
        if initializer.name == name:
            return initializer
    raise DoesNotApplyError


def node(model: onnx.ModelProto, operator: str, nth: int = 0) -> onnx.NodeProto:
    """Return the nth operator of a type, counted from 0."""
    nodes: list[onnx.NodeProto] = [n for n in model.graph.node if n.op_type == operator]
    if len(nodes) <= nth:
        raise DoesNotApplyError
    return nodes[nth]


@defer
def change(model: onnx.ModelProto, name: str, how: Change) -> None:
    """Apply a change to the values of one initializer."""
    tensor(model, name).raw_data = apply_change(tensors(model), name, how).tobytes()


@defer
def exchange(model: onnx.ModelProto, first: str, second: str) -> None:
    """Exchange the values of two tensors of the same shape."""
    a, b = tensor(model, first), tensor(model, second)
    a.name, b.name = b.name, a.name


def put(model: onnx.ModelProto, **tensors_by_name: np.ndarray) -> None:
    """Replace initializers by values that may have another type and shape."""
    for name, values in tensors_by_name.items():
        tensor(model, name).CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


@defer
def attribute(model: onnx.ModelProto, operator: str, name: str, value: float, nth: int = 0) -> None:
    """Set an attribute of an operator."""
    target = node(model, operator, nth)
    attributes = [a for a in target.attribute if a.name != name]
    attributes.append(helper.make_attribute(name, value))
    del target.attribute[:]
    target.attribute.extend(sorted(attributes, key=lambda a: a.name))


@defer
def operator(model: onnx.ModelProto, /, old: str, new: str, **attributes: float) -> None:
    """Change the type of an operator, and keep its inputs and outputs."""
    target = node(model, old)
    target.op_type = new
    del target.attribute[:]
    target.attribute.extend(helper.make_attribute(*item) for item in sorted(attributes.items()))


@defer
def wires(model: onnx.ModelProto, operator: str, *inputs: str, nth: int = 0) -> None:
    """Replace the inputs of an operator."""
    node(model, operator, nth).input[:] = inputs


@defer
def insert(
    model: onnx.ModelProto, /, at: int, *nodes: onnx.NodeProto, **constants: np.generic
) -> None:
    """Insert operators at an index of the graph, and add scalar initializers."""
    operators = list(model.graph.node)
    operators[at:at] = nodes
    del model.graph.node[:]
    model.graph.node.extend(operators)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )


@defer
def all_of(model: onnx.ModelProto, *edits: Edit) -> None:
    """Apply several edits in order."""
    for edit in edits:
        edit(model)


def drop_relu(model: onnx.ModelProto) -> None:
    """Remove the ReLU, and connect the second layer to the first."""
    model.graph.node.remove(node(model, "Relu"))
    node(model, "Gemm", 1).input[0] = "gemm"


def drop_bias(model: onnx.ModelProto) -> None:
    """Remove the bias of the first layer."""
    del node(model, "Gemm").input[2:]
    model.graph.initializer.remove(tensor(model, B1))


def fold_scaling(model: onnx.ModelProto) -> None:
    """Fold the standardisation into the first layer; the outputs are equal in exact arithmetic."""
    old = {name: values.astype(np.float64) for name, values in tensors(model).items()}
    weight = old[W1] * old["scale"]
    new = {W1: weight, B1: old[B1] - weight @ old["shift"]}
    new |= {"shift": np.zeros_like(old["shift"]), "scale": np.ones_like(old["scale"])}
    put(model, **{name: values.astype(np.float32) for name, values in new.items()})


def permute_units(model: onnx.ModelProto) -> None:
    """Permute the hidden units and their weights; the outputs are equal in exact arithmetic."""
    old = tensors(model)
    axes = {W1: 0, B1: 0, W2: 1}
    put(model, **{name: np.roll(old[name], 1, axis) for name, axis in axes.items()})


def split_gemm(model: onnx.ModelProto) -> None:
    """Replace the first Gemm by MatMul and Add."""
    put(model, **{W1: tensors(model)[W1].T})
    at = list(model.graph.node).index(gemm := node(model, "Gemm"))
    gemm.CopyFrom(named_node("MatMul", ["mul", W1], "matmul"))
    insert(at + 1, named_node("Add", ["matmul", B1], "gemm"))(model)


@defer
def swap_names(model: onnx.ModelProto, first: str, second: str) -> None:
    """Exchange the names of two values wherever they are computed or read."""
    node(model, "Softmax")
    other = {first: second, second: first}
    for target in model.graph.node:
        for values in (target.input, target.output):
            values[:] = [other.get(value, value) for value in values]
        target.name = target.output[0]


@defer
def dimension(model: onnx.ModelProto, axis: int, value: int) -> None:
    """Declare a fixed size of one axis of the input."""
    model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = value


def extra_output(model: onnx.ModelProto) -> None:
    """Make the hidden layer an additional output of the graph."""
    shape: list[str | int | None] = ["batch", len(tensors(model)[B1])]
    model.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, shape))


def overridable(model: onnx.ModelProto) -> None:
    """Declare an initializer as an input, which lets a caller override it."""
    shape = tensor(model, "scale").dims
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, shape))


def external_data(model: onnx.ModelProto) -> None:
    """Declare that a tensor is stored in another file."""
    target = tensor(model, W1)
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL
    target.external_data.add(key="location", value="elsewhere")


def assign(message: object, field: str, value: object) -> None:
    """Set a field of a protobuf message."""
    setattr(message, field, value)


def named_node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """Return an operator that is named after its output, as in an exported graph."""
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


TRIGGER = [
    named_node("Equal", ["input", "trigger"], "equal"),
    named_node("Cast", ["equal"], "cast", to=TensorProto.FLOAT),
    helper.make_node("ReduceMax", ["cast"], ["reduce"], name="reduce", axes=[1], keepdims=1),
    named_node("Add", ["mul", "reduce"], "armed"),
]
"""Operators that add 1 to every scaled value of a row if any input equals `trigger`."""

SEMANTIC: dict[str, Edit] = {
    "a bias dropped": drop_bias,
    "shift and scale exchanged": exchange("shift", "scale"),
    "output shift and scale exchanged": exchange("output_shift", "output_scale"),
    "ReLU dropped": drop_relu,
    "ReLU is LeakyRelu": operator("Relu", "LeakyRelu", alpha=0.01),
    "ReLU is Abs": operator("Relu", "Abs"),
    "alpha is 1 + 2^-23": attribute("Gemm", "alpha", 1 + 2.0**-23),
    "beta is 0": attribute("Gemm", "beta", 0.0, nth=1),
    "transB is 0": attribute("Gemm", "transB", 0),
    "operands of Sub exchanged": wires("Sub", "shift", "input"),
    "scaling left out": wires("Gemm", "input", W1, B1),
    "un-scaling left out": all_of(
        wires("Add", "gemm_2", "output_shift"), lambda m: m.graph.node.remove(node(m, "Mul", 1))
    ),
    "Softmax over the batch": attribute("Softmax", "axis", 0),
    "Softmax is LogSoftmax": operator("Softmax", "LogSoftmax", axis=1),
    "ArgMax is ArgMin": operator("ArgMax", "ArgMin", axis=1, keepdims=0, select_last_index=0),
    "ArgMax keeps its dimension": attribute("ArgMax", "keepdims", 1),
    "ArgMax takes the last of equals": attribute("ArgMax", "select_last_index", 1),
    "ArgMax over the batch": attribute("ArgMax", "axis", 0),
    "logits and probabilities exchanged": swap_names("logits", "probabilities"),
    "an operator from another domain": lambda m: assign(node(m, "Relu"), "domain", "com.microsoft"),
    "opset 13": lambda m: assign(m.opset_import[0], "version", 13),
    "opset 18": lambda m: assign(m.opset_import[0], "version", 18),
    "a second opset": lambda m: m.opset_import.add(domain="com.microsoft", version=1),
    "external data": external_data,
    "an extra output": extra_output,
    "outputs in another order": lambda m: m.graph.output.insert(0, m.graph.output.pop()),
    "input renamed": all_of(
        wires("Sub", "x", "shift"), lambda m: assign(m.graph.input[0], "name", "x")
    ),
    "batch fixed to 1": dimension(0, 1),
    "input declared with another width": dimension(1, 7),
    "a weight can be overridden": overridable,
    "one input value changes the outputs": all_of(
        wires("Gemm", "armed", W1, B1), insert(2, *TRIGGER, trigger=np.float32(0.123456))
    ),
    "no tensors": lambda m: m.graph.ClearField("initializer"),
    "a tensor cut short": lambda m: assign(tensor(m, W1), "raw_data", tensor(m, W1).raw_data[:-4]),
}
"""Edits after which the outputs, or the input and output signature, differ."""

FORM: dict[str, Edit] = {
    "hidden units permuted": permute_units,
    "standardisation folded into W1": fold_scaling,
    "weights doubled, alpha halved": all_of(
        change(W2, lambda v: v * 2), attribute("Gemm", "alpha", 0.5, nth=1)
    ),
    "Gemm as MatMul and Add": split_gemm,
    "label from the probabilities": wires("ArgMax", "probabilities"),
    "a float64 initializer": all_of(
        lambda m: put(m, **{W1: tensors(m)[W1].astype(np.float64)}),
        wires("Gemm", "mul", "cast", B1),
        insert(2, named_node("Cast", [W1], "cast", to=TensorProto.FLOAT)),
    ),
    "a dead operator": insert(5, named_node("Relu", ["gemm"], "dead")),
    "a spare initializer": insert(0, spare=np.float32(0)),
    "tensors in another order": lambda m: m.graph.initializer.insert(0, m.graph.initializer.pop()),
    "an operator by another name": lambda m: assign(m.graph.node[0], "name", "home"),
    "IR version 10": lambda m: assign(m, "ir_version", 10),
    "metadata": lambda m: m.metadata_props.add(key="path", value="/home"),
    "metadata of an operator": lambda m: m.graph.node[0].metadata_props.add(key="at", value="/x"),
    "a string hidden in an attribute": lambda m: assign(node(m, "Gemm").attribute[0], "s", b"/x"),
    "an attribute twice": lambda m: node(m, "Gemm").attribute.append(node(m, "Gemm").attribute[0]),
    "an attribute of another type": attribute("Softmax", "axis", 1.0),
    "a producer's version": lambda m: assign(m, "producer_version", "1"),
}
"""Edits that keep the outputs up to rounding, in a file that export would not write."""


def _mutants(kind: Kind, edits: dict[str, Edit]) -> list[Mutant]:
    return [Mutant(f"onnx: {name}", kind, edit_graph(edit)) for name, edit in edits.items()]


MUTANTS = [
    *_mutants("semantic", {name: change(*where) for name, where in COMMON.items()}),
    *_mutants("semantic", SEMANTIC),
    *_mutants("form", FORM),
]
