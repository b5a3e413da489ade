"""What a person chooses: the data sets known by name, and TrainConfig. It needs no torch, so that `--help` is quick."""

import math
from dataclasses import dataclass

from model.table import DataError

BUNDLED = ("digits", "diabetes", "wine", "breast_cancer", "synthetic")
"""Data sets that need no file: scikit-learn's, and the reference set-up on random data."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a person chooses about a fit."""

    hidden_features: int = 100
    """Width of the hidden layer."""
    epochs: int = 100
    """Passes over the training rows."""
    batch_size: int = 64
    """Rows per step of Adam."""
    learning_rate: float = 1e-3
    """Adam's step size, in units of the standardised problem."""
    seed: int = 0
    """Decides the split, the initial weights and the order of the rows."""

    def __post_init__(self) -> None:
        """Raise DataError where a value cannot be used."""
        for name in ("hidden_features", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise DataError(f"learning_rate: expected a positive number, found {self.learning_rate}")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed: expected 0 to 2**32 - 1, found {self.seed}")
