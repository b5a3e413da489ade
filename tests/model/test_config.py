"""Tests of model.config: the limits of the settings of a fit."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from model.config import TrainConfig, lists_as_tuples
from model.errors import DataError

COUNT = "expected 1 to 2**31 - 1"
RATE = "expected a positive number"
DECAY = "expected 0 to less than 1 / learning_rate"
WEIGHTS = "expected 1e-06 to 1e+06"
SEED = "expected 0 to 2**32 - 1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_features", 0, f"{COUNT}, found 0"),
        ("epochs", -1, f"{COUNT}, found -1"),
        ("batch_size", 2**31, f"{COUNT}, found 2147483648"),
        ("patience", -1, "expected 0 (disabled) or more, found -1"),
        ("weight_decay", -0.1, f"{DECAY}, found -0.1"),
        ("weight_decay", 1e3, f"{DECAY}, found 1000.0"),
        ("weight_decay", math.nan, f"{DECAY}, found nan"),
        ("class_weights", (1.0, 0.0), f"{WEIGHTS}, found 0"),
        ("class_weights", (math.nan,), f"{WEIGHTS}, found nan"),
        ("class_weights", (1.0, math.inf), f"{WEIGHTS}, found inf"),
        ("learning_rate", 0.0, f"{RATE}, found 0.0"),
        ("learning_rate", math.nan, f"{RATE}, found nan"),
        ("learning_rate", math.inf, f"{RATE}, found inf"),
        ("seed", -1, f"{SEED}, found -1"),
        ("seed", 2**32, f"{SEED}, found 4294967296"),
    ],
)
def test_bad_value(name: str, value: Any, expected: str) -> None:
    """The error of a value out of range gives the range and the value."""
    with pytest.raises(DataError, match=f"^{re.escape(f'{name}: {expected}')}$"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("weights", ["equal", "balanced", (0.1, 1 / 3)])
def test_round_trip_through_json(weights: Any) -> None:
    """A configuration restored from JSON equals the original."""
    config = TrainConfig(class_weights=weights, learning_rate=1 / 3, schedule="cosine", patience=7)
    text = json.dumps(dataclasses.asdict(config))
    assert config == TrainConfig(**json.loads(text, object_hook=lists_as_tuples))
