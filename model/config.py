"""The settings of a fit. This module does not import torch, which would slow `--help` down."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import DataError

BUNDLED_DATASETS = ("digits", "diabetes", "wine", "breast_cancer", "synthetic")
"""Names of the bundled data sets: four from scikit-learn, and one of random numbers."""
CHECKPOINT_INTERVAL_SECONDS = 30
"""Seconds between two checkpoints of a fit, and so the most work that a SIGKILL can lose."""


def setting(default: Any, flag: str, help: str) -> Any:  # noqa: A002 # click's name
    """Declare a field with its default, its flag of `train`, and its line in `train --help`."""
    return dataclasses.field(default=default, metadata={"flag": flag, "help": help})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a fit. Each is an option of the train command."""

    hidden_features: int = setting(100, "--hidden", "Number of features in the hidden layer.")
    epochs: int = setting(100, "--epochs", "Maximum number of passes over the training rows.")
    batch_size: int = setting(64, "--batch-size", "Number of rows per step of Adam.")
    patience: int = setting(
        0, "--patience", "Epochs without a lower validation loss before stopping; 0 never stops."
    )
    learning_rate: float = setting(1e-3, "--lr", "Learning rate of Adam.")
    schedule: Literal["constant", "cosine"] = setting(
        "constant", "--schedule", "Learning-rate schedule: constant, or a half cosine down to 0."
    )
    weight_decay: float = setting(
        0.0, "--weight-decay", "Decay of AdamW: each step multiplies the weights by 1 - lr * decay."
    )
    reduction: Literal["mean", "sum"] = setting(
        "mean", "--reduction", "Reduction of the losses of a batch: their mean or their sum."
    )
    class_weights: Literal["equal", "balanced"] | tuple[float, ...] = setting(
        "equal",
        "--class-weights",
        "Weights of the classes in the loss: equal, balanced (inverse to their numbers of rows), "
        "or one number per class, in the sorted order of the classes, such as 1,2.5,1.",
    )
    seed: int = setting(
        0, "--seed", "Seed of the split, the initial weights and the order of the rows."
    )

    def __post_init__(self) -> None:
        """Raise a DataError if a value cannot be used."""
        for name in ("hidden_features", "epochs", "batch_size"):
            self._require(1 <= getattr(self, name) < 2**31, name, "1 to 2**31 - 1")
        self._require(self.patience >= 0, "patience", "0 (disabled) or more")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "a positive number")
        # A step multiplies the weights by 1 - learning_rate * weight_decay.
        decay = self.learning_rate * self.weight_decay
        self._require(0 <= decay < 1, "weight_decay", "0 to less than 1 / learning_rate")
        self._require(0 <= self.seed < 2**32, "seed", "0 to 2**32 - 1")
        for weight in self.class_weights if isinstance(self.class_weights, tuple) else ():
            if not 1e-6 <= weight <= 1e6:
                raise DataError(f"class_weights: expected 1e-06 to 1e+06, found {weight:g}")

    def _require(self, valid: bool, name: str, expected: str) -> None:
        if not valid:
            raise DataError(f"{name}: expected {expected}, found {getattr(self, name)}")


def lists_as_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with tuples instead of lists, as an object_hook of json.loads()."""
    return {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
