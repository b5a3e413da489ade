"""The hard inputs: rows, chosen to provoke rounding errors, on which every runtime is tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.proof.bound import MAX_FLOAT32, Float32Array
from service.artifact.manifest import Feature

MAX_ONE_HOT_FEATURES = 256
"""Maximum number of features for which a one-hot row is added."""
BATCH_SIZES = (0, 1, 2, 3, 7, 33, 1024)
"""Numbers of rows in a batch."""


@dataclass(frozen=True)
class Case:
    """Named rows that a runtime evaluates in one batch."""

    name: str
    rows: Float32Array
    """Raw feature values, (rows, in_features)."""
    repeated: bool = False
    """Whether another case already holds the same rows."""
    overflowing: bool = False
    """Whether the rows are chosen to overflow float32."""


def hard_inputs(features: Sequence[Feature], rows: Float32Array) -> list[Case]:
    """Return cases of real rows, one-hot rows, extremes, scaled rows, and batches of real rows."""
    n = len(features)
    extremes = np.array([[f.min for f in features], [f.max for f in features]], np.float32)
    columns = np.unique(np.linspace(0, n - 1, min(n, MAX_ONE_HOT_FEATURES)).astype(int))
    one_hot = np.zeros((len(columns), n), np.float32)
    one_hot[np.arange(len(columns)), columns] = 1
    subnormals = np.array([[1e-40], [-1e-45]], np.float32)
    repeated_rows = np.resize(rows, (max(BATCH_SIZES), n))
    with np.errstate(over="ignore"):
        scaled = [Case(f"rows x {f:g}", rows * np.float32(f)) for f in (1e-6, 1e3, 1e6)]
    return [
        Case("real rows", rows),
        Case("zeros", np.zeros((1, n), np.float32)),
        Case("one-hot", np.concatenate([one_hot, -one_hot])),
        Case("training minimum and maximum", extremes),
        *scaled,
        Case("subnormals", np.tile(subnormals, n)),
        Case("largest finite", np.full((1, n), MAX_FLOAT32, np.float32), overflowing=True),
        *(Case(f"batch of {size}", repeated_rows[:size], repeated=True) for size in BATCH_SIZES),
    ]
