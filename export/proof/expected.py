"""The expected network: names of its tensors and wiring of its operators, derived from its parts.

A file with exactly these tensors, bit for bit, and these operators is the trained network.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export.errors import ProofError
from service.artifact.manifest import INPUT

Weights = Mapping[str, NDArray[np.float32]]
"""The tensors of weights.safetensors by name."""
Operator = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, float]]
"""An operator's type, its inputs, its outputs and its attributes."""
GEMM_ATTRIBUTES = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def task_of(weights: Weights) -> str:
    """Return the task of a network: only a regressor has an output scale."""
    return "regression" if "output_scale" in weights else "classification"


def expected_shapes(
    task: str, in_features: int = 0, hidden_features: int = 0, out_features: int = 0
) -> dict[str, tuple[int, ...]]:
    """Return the names of all tensors of a network, and their shapes."""
    shapes: dict[str, tuple[int, ...]] = {
        "shift": (in_features,),
        "scale": (in_features,),
        "net.linear1.weight": (hidden_features, in_features),
        "net.linear1.bias": (hidden_features,),
        "net.linear2.weight": (out_features, hidden_features),
        "net.linear2.bias": (out_features,),
    }
    if task == "regression":
        shapes |= {"output_scale": (out_features,), "output_shift": (out_features,)}
    return shapes


def expected_operators(task: str) -> list[Operator]:
    """Return the operators of the graph in order: scaling, two layers, head."""
    if task == "classification":
        scores = "logits"
        head: list[Operator] = [
            ("Softmax", ("logits",), ("probabilities",), {"axis": 1}),
            ("ArgMax", ("logits",), ("label",), {"axis": 1, "keepdims": 0, "select_last_index": 0}),
        ]
    else:
        scores = "gemm_2"
        head = [
            ("Mul", ("gemm_2", "output_scale"), ("mul_2",), {}),
            ("Add", ("mul_2", "output_shift"), ("output",), {}),
        ]
    return [
        ("Sub", (INPUT, "shift"), ("sub",), {}),
        ("Mul", ("sub", "scale"), ("mul",), {}),
        ("Gemm", ("mul", "net.linear1.weight", "net.linear1.bias"), ("gemm",), GEMM_ATTRIBUTES),
        ("Relu", ("gemm",), ("relu",), {}),
        ("Gemm", ("relu", "net.linear2.weight", "net.linear2.bias"), (scores,), GEMM_ATTRIBUTES),
        *head,
    ]


def compare_bits(file: str, tensors: Weights, weights: Weights) -> None:
    """Raise ProofError unless the tensors of a file have the run's names, shapes and bits."""
    names = sorted(expected_shapes(task_of(weights)))
    require_equal("tensors of the run", names, sorted(weights))
    require_equal(f"{file}: tensors", names, sorted(tensors))
    for name in names:
        expected, values = weights[name], tensors[name]
        require_equal(f"{file}: shape of {name}", expected.shape, values.shape)
        differ = np.flatnonzero(expected.view(np.uint32).ravel() != values.view(np.uint32).ravel())
        if differ.size:
            first = np.unravel_index(differ[0], expected.shape)
            raise ProofError(
                f"{file}: {name}: {differ.size} of {expected.size} values differ from the run's, "
                f"the first at {[int(i) for i in first]}: "
                f"expected {expected[first]!r}, found {values[first]!r}"
            )


def require_equal(what: str, expected: object, found: object) -> None:
    """Raise a ProofError that names both values where they differ."""
    if expected != found:
        raise ProofError(f"{what}: expected {expected}, found {found}")
