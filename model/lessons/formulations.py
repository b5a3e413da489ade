"""The same fit written six ways, from gradients derived by hand to nn.Module and an optimizer.

Read numpy_forms.py, tensor_forms.py and module_forms.py from top to bottom. Each form says what it
replaces and what is still written by hand. NumPy in float64 is the oracle of all others, with which
comparison.py compares them side by side.

All forms share one contract, Form, which makes them comparable at the same weights: w1 of shape
(hidden, in), b1 (hidden,), w2 (out, hidden) and b2 (out,). The forms that start at N(0, 1) have no
biases.

The first forms are column-major: X is (in, rows), one column per row of data. A layer is then W X,
as in a textbook, and the chain rule transposes the product: dW = dA X^T. torch.nn is row-major: x
is (rows, in), and nn.Linear computes x W^T, the same product transposed. Data and activations are
therefore transposed between the two, and weights and gradients are not. The transposition is free,
because `x.T` is a view of the same memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from model.table.dataset import FloatArray

Arrays = dict[str, FloatArray]
"""Weights or gradients by name: w1, b1, w2, b2 in this order, or w1, w2."""
Start = Literal["normal", "initialised"]
"""Initial weights on the reference problem: N(0, 1), or those of sequential()."""


@dataclass(frozen=True)
class Setup:
    """The start of a fit, in float64."""

    x: FloatArray
    """Features, (rows, in)."""
    y: FloatArray
    """Targets, (rows, out)."""
    weights: Arrays
    learning_rate: float


class Form(ABC):
    """One way to write the fit: constructed from a Setup, it takes steps.

    The constructors of the forms in PyTorch also take the dtype of the computation.
    """

    name: ClassVar[str]
    by_hand: ClassVar[str]
    """The parts that the author still writes."""
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
    """Copy weights or gradients to float64."""
    return {
        name: np.array(value.detach().numpy() if isinstance(value, Tensor) else value, np.float64)
        for name, value in values.items()
    }
