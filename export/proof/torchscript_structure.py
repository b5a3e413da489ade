"""The structural proof of model.torchscript.pt, on the graph that torch.jit loads from it."""

import torch

from export.proof.expected import Weights, compare_bits, expected_operators, require_equal, task_of
from service.artifact.manifest import INPUT, OUTPUTS, TORCHSCRIPT

ATEN_OPERATORS: dict[str, tuple[str, tuple[object, ...]]] = {
    "Sub": ("aten::sub", (1,)),
    "Mul": ("aten::mul", ()),
    "Add": ("aten::add", (1,)),
    "Gemm": ("aten::linear", ()),
    "Relu": ("aten::relu", ()),
    "Softmax": ("aten::softmax", (1, None)),
    "ArgMax": ("aten::argmax", (1, False)),
}
"""PyTorch operator, and the constants that follow its tensor arguments, by ONNX operator."""


def prove_torchscript(module: torch.jit.ScriptModule, weights: Weights) -> None:
    """Raise ProofError unless the loaded model.torchscript.pt is the network of these weights."""
    hooks = [*module._c._get_forward_hooks(), *module._c._get_forward_pre_hooks()]
    require_equal(f"{TORCHSCRIPT}: hooks", [], hooks)
    tensors = module.state_dict()
    for name, tensor in tensors.items():
        require_equal(f"{TORCHSCRIPT}: type of {name}", torch.float32, tensor.dtype)
    compare_bits(TORCHSCRIPT, {name: t.numpy() for name, t in tensors.items()}, weights)
    expected = expected_operators(task_of(weights))
    names = [outputs[0] for _, _, outputs, _ in expected]
    operators, results = _operators(module.inlined_graph, names)
    require_equal(f"{TORCHSCRIPT}: count of operators", len(expected), len(operators))
    for number, (kind, inputs, outputs, _) in enumerate(expected):
        aten, constants = ATEN_OPERATORS[kind]
        paths = tuple(f".{name}" if name in weights else name for name in inputs)
        operator = (aten, (*paths, *constants), outputs[0])
        require_equal(f"{TORCHSCRIPT}: operator {number + 1}", operator, operators[number])
    require_equal(f"{TORCHSCRIPT}: returned values", list(OUTPUTS[task_of(weights)]), results)


def _operators(
    graph: torch._C.Graph, names: list[str]
) -> tuple[list[tuple[str, tuple[object, ...], str]], list[str]]:
    """Return the operators of a graph without branches, and the names of the returned values.

    An operator's input is given as the value of a constant, as the path of a tensor in the module
    (with a leading dot), or, if it is the output of the n-th operator, as the n-th of `names`.
    """
    module, rows = graph.inputs()
    values: dict[str, object] = {module.debugName(): "", rows.debugName(): INPUT}
    operators: list[tuple[str, tuple[object, ...], str]] = []
    for node in graph.nodes():
        kind = node.kind()
        counts = (node.outputsSize(), len(list(node.blocks())))
        require_equal(f"{TORCHSCRIPT}: outputs and blocks of {kind}", (1, 0), counts)
        inputs = tuple(values[value.debugName()] for value in node.inputs())
        output = node.output().debugName()
        match kind:
            case "prim::Constant":
                values[output] = node.output().toIValue()
            case "prim::GetAttr":
                values[output] = f"{inputs[0]}.{node.s('name')}"
            case "prim::TupleConstruct":
                values[output] = inputs
            case _:
                values[output] = names[len(operators)] if len(operators) < len(names) else output
                operators.append((kind, inputs, str(values[output])))
    [result] = [values[value.debugName()] for value in graph.outputs()]
    results = result if isinstance(result, tuple) else (result,)
    return operators, [str(value) for value in results]
