"""Form, the contract that the formulations share, and Setup, the start of a fit."""

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
    """Initial weights on the reference problem: N(0, 1), or those of sequential()."""
    rate: ClassVar[float]
    """Learning rate on the reference problem."""

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
    arrays = {
        name: value.detach().numpy() if isinstance(value, Tensor) else value
        for name, value in values.items()
    }
    return {name: array.astype(np.float64) for name, array in arrays.items()}
