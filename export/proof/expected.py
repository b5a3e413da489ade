"""The tensors and operators that an exported file must hold.

A file with exactly these operators, and the tensors of the run bit for bit, is the trained network.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export.errors import ProofError
from service.artifact.manifest import INPUT

Weights = Mapping[str, NDArray[np.float32]]
"""Tensors of weights.safetensors, by name."""
Operator = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, float]]
"""Type, inputs, outputs and attributes of an operator."""
GEMM_ATTRIBUTES = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def task_of(weights: Weights) -> str:
    """Return the task of a network: only a network for regression has an output scale."""
    return "regression" if "output_scale" in weights else "classification"


def expected_shapes(
    task: str, in_features: int = 0, hidden_features: int = 0, out_features: int = 0
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of a network, by name."""
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
    """Return the operators of the graph in order: input scaling, two layers, outputs."""
    if task == "classification":
        scores = "logits"
        outputs: list[Operator] = [
            ("Softmax", ("logits",), ("probabilities",), {"axis": 1}),
            ("ArgMax", ("logits",), ("label",), {"axis": 1, "keepdims": 0, "select_last_index": 0}),
        ]
    else:
        scores = "gemm_2"
        outputs = [
            ("Mul", ("gemm_2", "output_scale"), ("mul_2",), {}),
            ("Add", ("mul_2", "output_shift"), ("output",), {}),
        ]
    return [
        ("Sub", (INPUT, "shift"), ("sub",), {}),
        ("Mul", ("sub", "scale"), ("mul",), {}),
        ("Gemm", ("mul", "net.linear1.weight", "net.linear1.bias"), ("gemm",), GEMM_ATTRIBUTES),
        ("Relu", ("gemm",), ("relu",), {}),
        ("Gemm", ("relu", "net.linear2.weight", "net.linear2.bias"), (scores,), GEMM_ATTRIBUTES),
        *outputs,
    ]


def compare_bits(file: str, tensors: Weights, weights: Weights) -> None:
    """Raise ProofError unless the tensors of a file have the run's names, shapes and bits."""
    names = sorted(expected_shapes(task_of(weights)))
    require_equal("tensors of the run", names, sorted(weights))
    require_equal(f"{file}: tensors", names, sorted(tensors))
    for name in names:
        expected, values = weights[name], tensors[name]
        require_equal(f"{file}: shape of {name}", expected.shape, values.shape)
        bits = expected.view(np.uint32), values.view(np.uint32)
        differences = np.argwhere(bits[0] != bits[1])
        if len(differences):
            first = tuple(differences[0].tolist())
            raise ProofError(
                f"{file}: {name}: {len(differences)} of {expected.size} values differ from the "
                f"run's, the first at {[*first]}: expected {expected[first]!r}, "
                f"found {values[first]!r}"
            )


def require_equal(subject: str, expected: object, actual: object) -> None:
    """Raise a ProofError that names both values if they are not equal."""
    if expected != actual:
        raise ProofError(f"{subject}: expected {expected}, found {actual}")
