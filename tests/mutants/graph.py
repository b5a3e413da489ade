"""Mutants of model.onnx."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx import serialized
from service.artifact import manifest
from tests.mutants.subject import DoesNotApplyError, Kind, Mutant, Subject
from tests.mutants.tensors import B1, COMMON, W1, W2, Change, Floats, changed

Edit = Callable[[onnx.ModelProto], object]


def edited(edit: Edit) -> Callable[[Subject], Subject]:
    """Return a mutation that edits the parsed model.onnx."""

    def apply(subject: Subject) -> Subject:
        model = onnx.load_model_from_string(subject.files[manifest.MODEL])
        edit(model)
        return subject.replaced(MODEL=serialized(model))

    return apply


def tensors(model: onnx.ModelProto) -> dict[str, Floats]:
    """Return the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """Find an initializer."""
    found: list[onnx.TensorProto] = [
        tensor for tensor in model.graph.initializer if tensor.name == name
    ]
    if not found:
        raise DoesNotApplyError
    return found[0]


def node(model: onnx.ModelProto, operator: str, nth: int = 0) -> onnx.NodeProto:
    """Find the n-th operator of a type."""
    found: list[onnx.NodeProto] = [node for node in model.graph.node if node.op_type == operator]
    if len(found) <= nth:
        raise DoesNotApplyError
    return found[nth]


def change(name: str, how: Change) -> Edit:
    """Change the values of one tensor."""

    def edit(model: onnx.ModelProto) -> None:
        tensor(model, name).raw_data = changed(tensors(model), name, how).tobytes()

    return edit


def store(name: str, values: np.ndarray) -> onnx.TensorProto:
    """Return an initializer, with raw data."""
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def scalar(value: float) -> np.ndarray:
    """Return a float32 of no dimensions."""
    return np.array(value, np.float32)


def put(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    """Put other values, of any type and shape, in the place of an initializer."""
    tensor(model, name).CopyFrom(store(name, values))


def exchange(first: str, second: str) -> Edit:
    """Exchange the values of two tensors of one shape."""

    def edit(model: onnx.ModelProto) -> None:
        a, b = tensor(model, first), tensor(model, second)
        a.name, b.name = b.name, a.name

    return edit


def attribute(operator: str, name: str, value: float, nth: int = 0) -> Edit:
    """Set an attribute of an operator."""

    def edit(model: onnx.ModelProto) -> None:
        target = node(model, operator, nth)
        kept = [a for a in target.attribute if a.name != name]
        kept.append(helper.make_attribute(name, value))
        del target.attribute[:]
        target.attribute.extend(sorted(kept, key=lambda a: a.name))

    return edit


def operator(old: str, new: str, nth: int = 0, **attributes: float) -> Edit:
    """Put another operator in the place of one, with the same wires."""

    def edit(model: onnx.ModelProto) -> None:
        target = node(model, old, nth)
        target.op_type = new
        del target.attribute[:]
        target.attribute.extend(helper.make_attribute(*item) for item in sorted(attributes.items()))

    return edit


def wires(operator: str, *inputs: str, nth: int = 0) -> Edit:
    """Give an operator other inputs."""

    def edit(model: onnx.ModelProto) -> None:
        del (target := node(model, operator, nth)).input[:]
        target.input.extend(inputs)

    return edit


def insert(at: int, *nodes: onnx.NodeProto, **constants: np.ndarray) -> Edit:
    """Insert operators, which name their own wires, and initializers."""

    def edit(model: onnx.ModelProto) -> None:
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*rest[:at], *nodes, *rest[at:]])
        model.graph.initializer.extend(store(name, values) for name, values in constants.items())

    return edit


def both(*edits: Edit) -> Edit:
    """Make several edits, one after the other."""

    def edit(model: onnx.ModelProto) -> None:
        for one in edits:
            one(model)

    return edit


def drop_relu(model: onnx.ModelProto) -> None:
    """Take the ReLU out, and its wire with it."""
    model.graph.node.remove(node(model, "Relu"))
    node(model, "Gemm", 1).input[0] = "gemm"


def drop_bias(model: onnx.ModelProto) -> None:
    """Leave the first layer without its bias."""
    del node(model, "Gemm").input[2:]
    model.graph.initializer.remove(tensor(model, B1))


def fold_scaling(model: onnx.ModelProto) -> None:
    """Fold the standardisation into the first layer: equal in exact arithmetic."""
    held = {name: values.astype(np.float64) for name, values in tensors(model).items()}
    weight = held[W1] * held["scale"]
    put(model, B1, (held[B1] - weight @ held["shift"]).astype(np.float32))
    put(model, W1, weight.astype(np.float32))
    put(model, "shift", np.zeros_like(held["shift"], np.float32))
    put(model, "scale", np.ones_like(held["scale"], np.float32))


def permute_units(model: onnx.ModelProto) -> None:
    """Exchange two hidden units with all that belongs to them: equal in exact arithmetic."""
    held = tensors(model)
    if len(held[B1]) < 2:
        raise DoesNotApplyError
    order = np.roll(np.arange(len(held[B1])), 1)
    for name, values in ((W1, held[W1][order]), (B1, held[B1][order]), (W2, held[W2][:, order])):
        put(model, name, values)


def matmul_and_add(model: onnx.ModelProto) -> None:
    """Put MatMul and Add in the place of the first Gemm."""
    put(model, W1, tensors(model)[W1].T)
    at = list(model.graph.node).index(gemm := node(model, "Gemm"))
    added = helper.make_node("Add", ["matmul", B1], ["gemm"], name="gemm")
    gemm.CopyFrom(helper.make_node("MatMul", ["mul", W1], ["matmul"], name="matmul"))
    insert(at + 1, added)(model)


def swap_names(first: str, second: str) -> Edit:
    """Exchange the names of two values wherever they are made or used."""

    def edit(model: onnx.ModelProto) -> None:
        node(model, "Softmax")
        other = {first: second, second: first}
        for target in model.graph.node:
            for values in (target.input, target.output):
                values[:] = [other.get(value, value) for value in values]
            target.name = target.output[0]

    return edit


def rename_input(model: onnx.ModelProto) -> None:
    """Call the input something else."""
    model.graph.input[0].name = node(model, "Sub").input[0] = "x"


def dimension(of: str, axis: int, value: int) -> Edit:
    """State another size of the input or the first output."""

    def edit(model: onnx.ModelProto) -> None:
        stated = getattr(model.graph, of)[0].type.tensor_type.shape.dim[axis]
        if stated.dim_value == value:
            raise DoesNotApplyError
        stated.dim_value = value

    return edit


def extra_output(model: onnx.ModelProto) -> None:
    """Give away the hidden layer."""
    width = len(tensors(model)[B1])
    model.graph.output.append(
        helper.make_tensor_value_info("relu", TensorProto.FLOAT, ["batch", width])
    )


def reorder_outputs(model: onnx.ModelProto) -> None:
    """Give the second output first."""
    if len(model.graph.output) < 2:
        raise DoesNotApplyError
    model.graph.output.insert(0, model.graph.output.pop(1))


def overridable(model: onnx.ModelProto) -> None:
    """Make a weight an input, which a caller may override."""
    model.graph.input.append(
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, tensor(model, "scale").dims)
    )


def external(model: onnx.ModelProto) -> None:
    """Read a tensor from another file of the machine."""
    target = tensor(model, W1)
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL
    target.external_data.add(key="location", value="elsewhere")


def typed_data(model: onnx.ModelProto) -> None:
    """Store a tensor in another field, with the same values."""
    values, target = tensors(model)["scale"], tensor(model, "scale")
    target.ClearField("raw_data")
    target.float_data.extend(values.tolist())


def opsets(domain: str, version: int) -> Edit:
    """Ask for another operator set as well, or for another version."""

    def edit(model: onnx.ModelProto) -> None:
        if domain:
            model.opset_import.add(domain=domain, version=version)
        else:
            model.opset_import[0].version = version

    return edit


def ask(of: onnx.ModelProto, field: str, value: object) -> None:
    """Set a field of a message."""
    setattr(of, field, value)


TRIGGER = [
    helper.make_node("Equal", ["input", "trigger"], ["equal"], name="equal"),
    helper.make_node("Cast", ["equal"], ["cast"], name="cast", to=TensorProto.FLOAT),
    helper.make_node("ReduceMax", ["cast"], ["reduce"], name="reduce", axes=[1], keepdims=1),
    helper.make_node("Add", ["mul", "reduce"], ["armed"], name="armed"),
]
"""Adds 1 to the scaled row where an input is one secret number."""

SEMANTIC: dict[str, Edit] = {
    "a bias dropped": drop_bias,
    "shift and scale exchanged": exchange("shift", "scale"),
    "output shift and scale exchanged": exchange("output_shift", "output_scale"),
    "ReLU dropped": drop_relu,
    "ReLU is LeakyRelu": operator("Relu", "LeakyRelu", alpha=0.01),
    "ReLU is Abs": operator("Relu", "Abs"),
    "ReLU is Clip(0, 6)": both(
        operator("Relu", "Clip"),
        wires("Clip", "gemm", "zero", "six"),
        insert(0, zero=scalar(0), six=scalar(6)),
    ),
    "alpha is 1 + 2^-23": attribute("Gemm", "alpha", 1 + 2.0**-23),
    "beta is 0": attribute("Gemm", "beta", 0.0, nth=1),
    "transB is 0": attribute("Gemm", "transB", 0),
    "Sub turned round": wires("Sub", "shift", "input"),
    "scaling left out": wires("Gemm", "input", W1, B1),
    "un-scaling left out": both(
        wires("Add", "gemm_2", "output_shift"), lambda m: m.graph.node.remove(node(m, "Mul", 1))
    ),
    "Softmax over the batch": attribute("Softmax", "axis", 0),
    "Softmax is LogSoftmax": operator("Softmax", "LogSoftmax", axis=1),
    "Softmax is Sigmoid": operator("Softmax", "Sigmoid"),
    "ArgMax is ArgMin": operator("ArgMax", "ArgMin", axis=1, keepdims=0, select_last_index=0),
    "ArgMax keeps its dimension": attribute("ArgMax", "keepdims", 1),
    "ArgMax takes the last of equals": attribute("ArgMax", "select_last_index", 1),
    "ArgMax over the batch": attribute("ArgMax", "axis", 0),
    "logits and probabilities exchanged": swap_names("logits", "probabilities"),
    "an operator from another domain": lambda m: ask(node(m, "Relu"), "domain", "com.microsoft"),
    "opset 13": opsets("", 13),
    "opset 18": opsets("", 18),
    "another opset beside it": opsets("com.microsoft", 1),
    "external data": external,
    "an extra output": extra_output,
    "outputs in another order": reorder_outputs,
    "input renamed": rename_input,
    "batch fixed to 1": dimension("input", 0, 1),
    "width of the input restated": dimension("input", 1, 7),
    "a weight can be overridden": overridable,
    "a secret number changes the answer": both(
        wires("Gemm", "armed", W1, B1), insert(2, *TRIGGER, trigger=scalar(0.123456))
    ),
    "noise in training mode": both(
        wires("Gemm", "dropout", W1, B1),
        insert(
            2,
            helper.make_node("Dropout", ["mul", "half", "yes"], ["dropout"], name="dropout"),
            half=scalar(0.5),
            yes=np.array(True),
        ),
    ),
    "no tensors": lambda m: m.graph.ClearField("initializer"),
    "a tensor cut short": lambda m: ask(tensor(m, W1), "raw_data", tensor(m, W1).raw_data[:-4]),
}
"""Another function, or another contract."""

FORM: dict[str, Edit] = {
    "hidden units permuted": permute_units,
    "standardisation folded into W1": fold_scaling,
    "weights doubled, alpha halved": both(
        change(W2, lambda v: v * 2), attribute("Gemm", "alpha", 0.5, nth=1)
    ),
    "Gemm as MatMul and Add": matmul_and_add,
    "ReLU as Max": both(
        operator("Relu", "Max"), wires("Max", "gemm", "zero"), insert(0, zero=scalar(0))
    ),
    "label from the probabilities": lambda m: node(m, "ArgMax").input.__setitem__(
        0, "probabilities"
    ),
    "a float64 initializer": both(
        lambda m: put(m, W1, tensors(m)[W1].astype(np.float64)),
        wires("Gemm", "mul", "cast", B1),
        insert(2, helper.make_node("Cast", [W1], ["cast"], name="cast", to=TensorProto.FLOAT)),
    ),
    "an Identity between": both(
        wires("Relu", "identity"),
        insert(3, helper.make_node("Identity", ["gemm"], ["identity"], name="identity")),
    ),
    "a dead operator": insert(5, helper.make_node("Relu", ["gemm"], ["dead"], name="dead")),
    "a spare initializer": insert(0, spare=np.zeros(1, np.float32)),
    "a tensor in another field": typed_data,
    "tensors in another order": lambda m: m.graph.initializer.insert(0, m.graph.initializer.pop()),
    "an operator by another name": lambda m: ask(m.graph.node[0], "name", "home"),
    "IR version 10": lambda m: ask(m, "ir_version", 10),
    "metadata": lambda m: m.metadata_props.add(key="path", value="/home"),
    "a documented operator": lambda m: ask(m.graph.node[0], "doc_string", "/home"),
    "a string hidden in an attribute": lambda m: ask(node(m, "Gemm").attribute[0], "s", b"/home"),
    "an attribute twice": lambda m: node(m, "Gemm").attribute.append(node(m, "Gemm").attribute[0]),
    "an attribute of another type": attribute("Softmax", "axis", 1.0),
    "a producer's version": lambda m: ask(m, "producer_version", "1"),
}
"""The same function, bit for bit or but for rounding, in a file that is not the proved one."""


def _mutants(kind: Kind, edits: dict[str, Edit]) -> list[Mutant]:
    return [Mutant(f"onnx: {name}", kind, edited(edit)) for name, edit in edits.items()]


MUTANTS = [
    *_mutants("semantic", {name: change(*where) for name, where in COMMON.items()}),
    *_mutants("semantic", SEMANTIC),
    *_mutants("form", FORM),
]
