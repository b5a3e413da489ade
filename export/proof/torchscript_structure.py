"""TODO: export.proof.torchscript_structure."""

import torch

from export.proof.expected import (
    Weights,
    expected_wiring,
    require_equal,
    require_equal_bits,
    task_of,
)
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
"""By ONNX operator: PyTorch's, and the constants that follow its tensors."""


def prove_torchscript(module: torch.jit.ScriptModule, weights: Weights) -> None:
    """Hold a loaded model.torchscript.pt to the weights.

    Raises:
        ProofError: a parameter, a buffer or an operator is not the expected one.
    """
    hooks = [*module._c._get_forward_hooks(), *module._c._get_forward_pre_hooks()]
    require_equal(f"{TORCHSCRIPT}: hooks", [], hooks)
    for name, tensor in module.state_dict().items():
        require_equal(f"{TORCHSCRIPT}: type of {name}", torch.float32, tensor.dtype)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    require_equal_bits(TORCHSCRIPT, tensors, weights)
    expected = expected_wiring(task_of(weights))
    wires, returned = _torchscript_wiring(
        module.inlined_graph, [outputs[0] for _, _, outputs, _ in expected]
    )
    require_equal(f"{TORCHSCRIPT}: count of operators", len(expected), len(wires))
    for number, ((op, inputs, outputs, _), found) in enumerate(
        zip(expected, wires, strict=True), start=1
    ):
        kind, constants = ATEN_OPERATORS[op]
        named = tuple(f".{name}" if name in weights else name for name in inputs)
        require_equal(
            f"{TORCHSCRIPT}: operator {number}", (kind, (*named, *constants), outputs[0]), found
        )
    require_equal(f"{TORCHSCRIPT}: returned values", list(OUTPUTS[task_of(weights)]), returned)


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
        require_equal(
            f"{TORCHSCRIPT}: outputs and blocks of {kind}",
            (1, 0),
            (node.outputsSize(), len(list(node.blocks()))),
        )
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
    return wires, [str(value) for value in returned] if isinstance(returned, tuple) else [
        str(returned)
    ]
