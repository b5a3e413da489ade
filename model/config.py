"""The settings of a fit. This module does not import torch, which would slow `--help` down."""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from model.errors import SettingError
from tabular.names import near_miss

BUNDLED_DATASETS = ("digits", "diabetes", "wine", "breast_cancer", "synthetic")
"""Names of the bundled data sets: four from scikit-learn, and one of random numbers."""
CHECKPOINT_INTERVAL_SECONDS = 30
"""Seconds between two checkpoints of a fit; a SIGKILL loses the work since the last one."""
NUMBERS: Mapping[type, tuple[type, str]] = {
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
}
"""Accepted types of a field by its declared type, which include NumPy's, and their description."""


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
        """Convert numbers to the types of the fields; raise a SettingError for a bad value."""
        for name, hint in get_type_hints(TrainConfig).items():
            object.__setattr__(self, name, _convert(name, getattr(self, name), hint))
        for name in ("hidden_features", "epochs", "batch_size"):
            self._require(1 <= getattr(self, name) < 2**31, name, "1 to 2**31 - 1")
        self._require(self.patience >= 0, "patience", "0 (disabled) or more")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "a positive number")
        # A step multiplies the weights by 1 - learning_rate * weight_decay.
        decay = self.learning_rate * self.weight_decay
        expected = "0 to less than 1 / learning rate"
        self._require(0 <= decay < 1, "weight_decay", expected)
        self._require(0 <= self.seed < 2**32, "seed", "0 to 2**32 - 1")
        for weight in self.class_weights if isinstance(self.class_weights, tuple) else ():
            if not 1e-6 <= weight <= 1e6:
                expected = "numbers of 1e-06 to 1e+06"
                raise SettingError("class_weights", f"expected {expected}, found {weight:g}")

    def _require(self, valid: bool, name: str, expected: str) -> None:
        if not valid:
            raise SettingError(name, f"expected {expected}, found {_show(getattr(self, name))}")


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Return a value in the type of its field; raise a SettingError if it has another type."""
    if hint in NUMBERS:
        return _number(name, value, hint)
    literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    words = [word for literal in literals for word in get_args(literal)]
    if isinstance(value, str) and value in words:
        return value
    expected = " or ".join(words)
    if name == "class_weights":
        expected = "equal, balanced, or numbers like 1,2.5,1"
        if isinstance(value, list | tuple) and value:
            return tuple(_number(name, item, float) for item in value)
    suggestion = near_miss(value, words) if isinstance(value, str) else ""
    raise SettingError(name, f"expected {expected}, found {_show(value)}{suggestion}")


def _number(name: str, value: Any, kind: type) -> int | float:
    accepted, expected = NUMBERS[kind]
    if isinstance(value, accepted) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an int may be too large for a float
            number: int | float = kind(value)
            return number
    raise SettingError(name, f"expected {expected}, found {_show(value)}")


def _show(value: Any) -> str:
    """Return a value for a message, at most 60 characters long."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python converts integers of at most 4300 digits.
        return "a huge number"


def lists_as_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with tuples instead of lists, as an object_hook of json.loads()."""
    return {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
