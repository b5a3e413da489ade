"""The structural proof: a file that passes holds exactly the trained network, bit for bit and wire for wire.

What remains to be shown is that a runtime evaluates it properly; that is export.verify's.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export import ProofError
from service.artifact.manifest import INPUT

Weights = Mapping[str, NDArray[np.float32]]
Wire = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, float]]
"""An operator, its inputs, its outputs and its attributes."""
GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def task_of(weights: Weights) -> str:
    """Tell the head from the tensors: only a regressor un-scales its output."""
    return "regression" if "output_scale" in weights else "classification"


def expected_names(task: str) -> set[str]:
    """Return the names of the tensors that a network has, no more and no fewer."""
    layers = {
        f"net.{layer}.{part}" for layer in ("linear1", "linear2") for part in ("weight", "bias")
    }
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


def require_equal_bits(
    file: str, found: Mapping[str, NDArray[np.float32]], weights: Weights
) -> None:
    names = expected_names(task_of(weights))
    require_equal("tensors of the run", sorted(names), sorted(weights))
    require_equal(f"{file}: tensors", sorted(names), sorted(found))
    for name in sorted(names):
        require_equal(f"{file}: shape of {name}", weights[name].shape, found[name].shape)
        differ = np.flatnonzero(
            weights[name].view(np.uint32).ravel() != found[name].view(np.uint32).ravel()
        )
        if differ.size:
            first = np.unravel_index(differ[0], weights[name].shape)
            raise ProofError(
                f"{file}: {name}: {differ.size} of {weights[name].size} values differ from the run's, the first at "
                f"{[int(i) for i in first]}: expected {weights[name][first]!r}, found {found[name][first]!r}"
            )


def require_equal(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise ProofError(f"{what}: expected {expected}, found {found}")
