"""What a person chooses: the data sets known by name, and TrainConfig. It needs no torch, so that `--help` is quick."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from model.errors import DataError

BUNDLED_DATASETS = ("digits", "diabetes", "wine", "breast_cancer", "synthetic")
"""Data sets that need no file: scikit-learn's, and the reference set-up on random data."""
CHECKPOINT_INTERVAL_SECONDS = 30
"""Between two saves of an unfinished fit: what a SIGKILL costs at most."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a person chooses about a fit."""

    hidden_features: int = 100
    """Width of the hidden layer."""
    epochs: int = 100
    """Passes over the training rows."""
    batch_size: int = 64
    """Rows per step of Adam."""
    patience: int = 0
    """Epochs without a lower validation loss after which the fit stops; 0 never stops early."""
    learning_rate: float = 1e-3
    """Adam's step size, in units of the standardised problem."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate stays, or falls to 0 along half a cosine wave over all epochs."""
    weight_decay: float = 0.0
    """Decoupled from the gradient, as in AdamW."""
    reduction: Literal["mean", "sum"] = "mean"
    """Whether a step follows the gradient of its batch's mean loss, or of the sum."""
    class_weights: Literal["equal", "balanced"] | tuple[float, ...] = "equal"
    """What each class counts in the loss: alike, inversely to its rows, or numbers in the order of the classes."""
    seed: int = 0
    """Decides the split, the initial weights and the order of the rows."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read a config from JSON, whose lists become tuples; TypeError where a field is unknown."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in document.items()
        }
        return cls(**fields)

    def __post_init__(self) -> None:
        """Raise DataError where a value cannot be used."""
        for name in ("hidden_features", "epochs", "batch_size"):
            if not 1 <= getattr(self, name) < 2**31:
                raise DataError(f"{name}: expected 1 to 2**31 - 1, found {getattr(self, name)}")
        if self.patience < 0:
            raise DataError(
                f"patience: expected 0 (never stop early) or more, found {self.patience}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise DataError(
                f"learning_rate: expected a positive number, found {self.learning_rate}"
            )
        if (
            not 0 <= self.weight_decay * self.learning_rate < 1
        ):  # a step shrinks the weights by this
            raise DataError(
                f"weight_decay: expected 0 to less than 1 / learning_rate, found {self.weight_decay}"
            )
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                if not 1e-6 <= weight <= 1e6:
                    raise DataError(
                        f"class_weights: expected numbers from 1e-06 to 1e+06, found {weight:g}"
                    )
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed: expected 0 to 2**32 - 1, found {self.seed}")
