"""The same fit written six ways, from gradients derived by hand to nn.Module and an optimizer.

Read numpy_forms.py, tensor_forms.py and module_forms.py in this order. The docstring of each form
names what the form replaces, and its `by_hand` lists what the author still writes. comparison.py
compares the forms in PyTorch with the oracles: gradient descent and Adam in NumPy and float64.

All forms have the same weights: w1 of shape (hidden, in), b1 (hidden,), w2 (out, hidden) and b2
(out,). The forms that start with normally distributed weights have no biases.

The first forms are column-major: X is (in, rows), one column per row of data. A layer is then W X,
as in a textbook, and by the chain rule dW = dA X^T. torch.nn is row-major: x is (rows, in), and
nn.Linear computes x W^T, the same product transposed. Data and activations are therefore transposed
between the two; weights and gradients are not. `x.T` costs nothing: it is a view of x's memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from model.table.dataset import FloatArray

Arrays = dict[str, FloatArray]
"""Weights or gradients by name: w1, b1, w2 and b2 in this order, or only w1 and w2."""
Start = Literal["normal", "initialised"]
"""Initial weights on the reference problem: standard normal, or those of sequential()."""


@dataclass(frozen=True)
class Setup:
    """The data, the initial weights and the learning rate of a fit, in float64."""

    x: FloatArray
    """Features, (rows, in)."""
    y: FloatArray
    """Targets, (rows, out)."""
    weights: Arrays
    learning_rate: float


class Form(ABC):
    """One way to write the fit. In PyTorch, a constructor also takes the dtype to compute in."""

    name: ClassVar[str]
    by_hand: ClassVar[str]
    """What the author still writes by hand."""
    start: ClassVar[Start]

    weights: Mapping[str, Tensor | FloatArray]
    gradients: Mapping[str, Tensor | FloatArray]
    """Gradients of the last step, at the weights before its update."""

    @abstractmethod
    def __init__(self, setup: Setup) -> None: ...

    @abstractmethod
    def step(self) -> float:
        """Take a step; return the loss before its update."""


def float64(values: Mapping[str, Tensor | FloatArray]) -> Arrays:
    """Return copies of weights or gradients in float64."""
    return {
        name: np.array(value.detach().numpy() if isinstance(value, Tensor) else value, np.float64)
        for name, value in values.items()
    }
