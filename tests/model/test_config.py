"""model.config: what a person chooses about a fit."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from model.config import TrainConfig
from model.errors import DataError


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_features": 0}, "hidden_features: expected 1 to 2**31 - 1, found 0"),
        ({"epochs": -1}, "epochs: expected 1 to 2**31 - 1, found -1"),
        ({"batch_size": 0}, "batch_size: expected 1 to 2**31 - 1, found 0"),
        ({"patience": -1}, "patience: expected 0 (never stop early) or more, found -1"),
        (
            {"weight_decay": -0.1},
            "weight_decay: expected 0 to less than 1 / learning_rate, found -0.1",
        ),
        (
            {"weight_decay": math.nan},
            "weight_decay: expected 0 to less than 1 / learning_rate, found nan",
        ),
        (
            {"weight_decay": math.inf},
            "weight_decay: expected 0 to less than 1 / learning_rate, found inf",
        ),
        (
            {"class_weights": (1.0, 0.0)},
            "class_weights: expected numbers from 1e-06 to 1e+06, found 0",
        ),
        (
            {"class_weights": (math.nan,)},
            "class_weights: expected numbers from 1e-06 to 1e+06, found nan",
        ),
        (
            {"class_weights": (1.0, math.inf)},
            "class_weights: expected numbers from 1e-06 to 1e+06, found inf",
        ),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number, found 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: expected a positive number, found nan"),
        ({"learning_rate": math.inf}, "learning_rate: expected a positive number, found inf"),
        ({"seed": -1}, "seed: expected 0 to 2**32 - 1, found -1"),
        ({"seed": 2**32}, "seed: expected 0 to 2**32 - 1, found 4294967296"),
    ],
)
def test_bad_configuration(changes: dict[str, Any], expected: str) -> None:
    """A value that cannot be used is refused with what was expected and found."""
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        TrainConfig(**changes)


def test_configuration_cannot_change() -> None:
    """What a run records is what it was made with."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("weights", ["equal", "balanced", (0.1, 1 / 3)])
def test_configuration_comes_back_from_json(weights: Any) -> None:
    """Every value of its type, so that a run's settings are those it was made with; an unknown one is refused."""
    config = TrainConfig(class_weights=weights, learning_rate=1 / 3, schedule="cosine", patience=7)
    document = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config == TrainConfig.of(document)
    with pytest.raises(TypeError, match="surprise"):
        TrainConfig.of(document | {"surprise": 1})
