"""Tests of model.config: the limits of the settings of a fit."""

import dataclasses
import json
import math
import re
from typing import Any

import numpy as np
import pytest

from model.config import TrainConfig, lists_as_tuples
from model.errors import DataError, SettingError

COUNT = "expected 1 to 2**31 - 1"
RATE = "expected a positive number"
DECAY = "expected 0 to less than 1 / learning rate"
WEIGHTS = "expected numbers of 1e-06 to 1e+06"
WEIGHT_WORDS = "expected equal, balanced, or numbers like 1,2.5,1"
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
        ("hidden_features", "100", "expected an integer, found '100'"),
        ("epochs", 2.5, "expected an integer, found 2.5"),
        ("epochs", math.nan, "expected an integer, found nan"),
        ("batch_size", True, "expected an integer, found True"),
        ("patience", None, "expected an integer, found None"),
        ("seed", np.float64(1), "expected an integer, found np.float64(1.0)"),
        ("learning_rate", "0.1", "expected a number, found '0.1'"),
        ("learning_rate", False, "expected a number, found False"),
        ("weight_decay", 10**400, f"expected a number, found 1{'0' * 59}"),
        (
            "schedule",
            "cosin",
            "expected constant or cosine, found 'cosin' (did you mean 'cosine'?)",
        ),
        ("schedule", 1, "expected constant or cosine, found 1"),
        ("reduction", ["mean"], "expected mean or sum, found ['mean']"),
        (
            "class_weights",
            "balance",
            f"{WEIGHT_WORDS}, found 'balance' (did you mean 'balanced'?)",
        ),
        ("class_weights", (), f"{WEIGHT_WORDS}, found ()"),
        ("class_weights", 1.0, f"{WEIGHT_WORDS}, found 1.0"),
        ("class_weights", (1.0, "2"), "expected a number, found '2'"),
    ],
)
def test_bad_value(name: str, value: Any, expected: str) -> None:
    """The error names the field, and tells what was expected and found."""
    with pytest.raises(SettingError, match=f"^{re.escape(f'{name}: {expected}')}$") as caught:
        TrainConfig(**{name: value})
    assert isinstance(caught.value, DataError)
    assert (name, expected) == (caught.value.name, caught.value.problem)


def test_numbers_get_the_types_of_their_fields() -> None:
    """NumPy's numbers, integers for decimals and lists are accepted; JSON can hold the result."""
    values: dict[str, Any] = {
        "hidden_features": np.int64(7),
        "learning_rate": np.float64(0.5),
        "weight_decay": 0,
        "class_weights": [1],
    }
    config = TrainConfig(**values)
    expected = TrainConfig(
        hidden_features=7, learning_rate=0.5, weight_decay=0.0, class_weights=(1.0,)
    )
    assert expected == config
    assert '"hidden_features": 7' in json.dumps(dataclasses.asdict(config))
    assert [int, float, tuple] == [
        type(value) for value in (config.hidden_features, config.weight_decay, config.class_weights)
    ]


@pytest.mark.parametrize("weights", ["equal", "balanced", (0.1, 1 / 3)])
def test_round_trip_through_json(weights: Any) -> None:
    """A configuration restored from JSON equals the original."""
    config = TrainConfig(class_weights=weights, learning_rate=1 / 3, schedule="cosine", patience=7)
    text = json.dumps(dataclasses.asdict(config))
    assert config == TrainConfig(**json.loads(text, object_hook=lists_as_tuples))
