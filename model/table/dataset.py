"""The Table that a fit works on, and the types of its parts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["regression", "classification"]
Kind = Literal["float", "integer", "boolean"]
ClassValue = str | int | float | bool
"""Value of a class, in the JSON type that matches its column."""
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The origin of a table's data."""

    path: str
    """Absolute path of the file, or name of a bundled data set."""
    size_bytes: int | None
    """Size of the file; None for a bundled data set."""
    sha256: str | None
    """Hexadecimal SHA-256 of the file; None for a bundled data set."""
    dropped_columns: tuple[str, ...]
    """Columns that were left out on request."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of feature values with their targets."""

    name: str
    """Name of the run and of the artifact, [a-z0-9_-]+."""
    task: Task
    features: tuple[str, ...]
    kinds: tuple[Kind, ...]
    x: Float32Array
    """Raw feature values, (rows, in_features)."""
    targets: tuple[str, ...]
    y: FloatArray | IntArray
    """Targets (rows, out_features) float64, or indices into classes (rows,) int64."""
    classes: tuple[ClassValue, ...]
    """Classes in sorted order; empty for a regression."""
    notes: tuple[str, ...]
    """Inferred properties, each with the option that overrides the inference."""
    source: Source | None = None
    """Origin of the data; None if the table was made in Python."""

    @property
    def out_features(self) -> int:
        """Width of the network's last layer."""
        return len(self.classes) or len(self.targets)
