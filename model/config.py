"""TrainConfig, the settings of a fit. Imports no torch, because `--help` must be quick."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from model.errors import DataError

BUNDLED_DATASETS = ("digits", "diabetes", "wine", "breast_cancer", "synthetic")
"""Names of the data sets that need no file: four of scikit-learn's, and random numbers."""
CHECKPOINT_INTERVAL_SECONDS = 30
"""Seconds between two checkpoints of a fit: the most work that a SIGKILL can cost."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a fit."""

    hidden_features: int = 100
    """Width of the hidden layer."""
    epochs: int = 100
    """Maximum number of passes over the training rows."""
    batch_size: int = 64
    """Number of rows in one step of Adam."""
    patience: int = 0
    """Number of epochs without a lower validation loss that end the fit; 0 disables this."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, for standardised features and targets."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate: constant, or half a cosine wave down to 0 over all epochs."""
    weight_decay: float = 0.0
    """Weight decay, decoupled from the gradient as in AdamW."""
    reduction: Literal["mean", "sum"] = "mean"
    """Reduction of the losses in a batch to the loss of a step."""
    class_weights: Literal["equal", "balanced"] | tuple[float, ...] = "equal"
    """Weight of each class in the loss: equal, inverse to its rows, or a number for each class."""
    seed: int = 0
    """Seed of the split, the initial weights and the order of the rows."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the config in a JSON object, whose lists become tuples.

        Raises:
            TypeError: a field is unknown.
        """
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in document.items()
        }
        return cls(**fields)

    def __post_init__(self) -> None:
        """Raise a DataError if a value cannot be used."""
        for name in ("hidden_features", "epochs", "batch_size"):
            if not 1 <= getattr(self, name) < 2**31:
                raise DataError(f"{name}: expected 1 to 2**31 - 1, found {getattr(self, name)}")
        if self.patience < 0:
            raise DataError(f"patience: expected 0 (disabled) or more, found {self.patience}")
        if not 0 < self.learning_rate < math.inf:
            raise DataError(
                f"learning_rate: expected a positive number, found {self.learning_rate}"
            )
        # A step multiplies the weights by 1 - learning_rate * weight_decay.
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise DataError(
                "weight_decay: expected 0 to less than 1 / learning_rate, "
                f"found {self.weight_decay}"
            )
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                if not 1e-6 <= weight <= 1e6:
                    raise DataError(
                        f"class_weights: expected numbers from 1e-06 to 1e+06, found {weight:g}"
                    )
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed: expected 0 to 2**32 - 1, found {self.seed}")
