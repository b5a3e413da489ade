"""Rows of numbers with what is to be predicted from them: Table, its split, and its columns described."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["regression", "classification"]
Kind = Literal["float", "integer", "boolean"]
ClassValue = str | int | float | bool
"""A class, in the JSON type of the column it comes from."""
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers with what is to be predicted from them."""

    name: str
    """[a-z0-9_-]+, the name of the run and of the artifact."""
    task: Task
    features: tuple[str, ...]
    kinds: tuple[Kind, ...]
    x: Float32Array
    """(rows, in_features), raw feature values."""
    targets: tuple[str, ...]
    y: FloatArray | IntArray
    """(rows, out_features) float64 for regression, (rows,) int64 indices into classes otherwise."""
    classes: tuple[ClassValue, ...]
    """In sorted order; empty for regression."""
    notes: tuple[str, ...]
    """What was inferred, with the flag that overrides it."""

    @property
    def out_features(self) -> int:
        """The width of the network's last layer."""
        return len(self.classes) or len(self.targets)
