"""Rows of numbers with what is to be predicted from them: Table, its split, and its columns described."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["regression", "classification"]
Kind = Literal["float", "integer", "boolean"]
ClassValue = str | int | float | bool
"""A class, in the JSON type of the column it comes from."""

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


class DataError(ValueError):
    """What a person gave cannot be used; the message is the one line they should read."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers with what is to be predicted from them."""

    name: str
    """[a-z0-9_-]+, the name of the run and of the artifact."""
    task: Task
    features: tuple[str, ...]
    kinds: tuple[Kind, ...]
    x: Float32Array
    """(rows, in_features), raw feature values."""
    targets: tuple[str, ...]
    y: FloatArray | IntArray
    """(rows, out_features) float64 for regression, (rows,) int64 indices into classes otherwise."""
    classes: tuple[ClassValue, ...]
    """In sorted order; empty for regression."""
    notes: tuple[str, ...]
    """What was inferred, with the flag that overrides it."""

    @property
    def out_features(self) -> int:
        """The width of the network's last layer."""
        return len(self.classes) or len(self.targets)


@dataclass(frozen=True)
class Split:
    """Row indices, disjoint, 64/16/20 percent."""

    train: IntArray
    validation: IntArray
    test: IntArray


@dataclass(frozen=True)
class Statistics:
    """Per column, over the rows given: arrays of shape (columns,), float64."""

    mean: FloatArray
    std: FloatArray
    min: FloatArray
    max: FloatArray
    median: FloatArray

    @property
    def constant(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """True where a column's spread is lost in the rounding of its mean (so 0.1 repeated is constant)."""
        return self.std <= np.maximum(1e-6 * np.abs(self.mean), np.finfo(np.float32).tiny)

    @property
    def scale(self) -> FloatArray:
        """1 / std, and 0 for a constant column: the network does not see it."""
        return np.where(self.constant, 0.0, 1.0 / np.where(self.constant, 1.0, self.std))


def split(table: Table, seed: int) -> Split:
    """Split into 64/16/20 percent train, validation and test; stratified where there are classes."""
    from sklearn.model_selection import train_test_split

    labels = table.y if table.classes else None
    rest, test = train_test_split(np.arange(len(table.x)), test_size=0.2, random_state=seed, stratify=labels)
    labels = table.y[rest] if table.classes else None
    train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=labels)
    return Split(train, validation, test)


def statistics(values: Float32Array | FloatArray) -> Statistics:
    """Describe the columns of values, (rows, columns), in float64, a column at a time to spare memory."""
    columns = (column.astype(np.float64) for column in values.T)
    described = [(c.mean(), c.std(), c.min(), c.max(), np.median(c)) for c in columns]
    return Statistics(*np.array(described).T)


def warnings(table: Table, described: Statistics) -> list[str]:
    """Say which columns the network cannot see as a person would expect."""
    largest = np.maximum(abs(described.min), abs(described.max))
    spacing = np.spacing(largest.astype(np.float32)).astype(np.float64)
    rounded = spacing > 1e-3 * described.std
    rounded |= (np.array(table.kinds) == "integer") & (spacing > 1)
    found = [
        f"column '{table.features[i]}': float32 keeps values near {described.mean[i]:.7g} only to the nearest "
        f"{spacing[i]:.2g}, and they spread by {described.std[i]:.3g}; subtract a constant before training"
        for i in np.flatnonzero(rounded & (described.min < described.max))
    ]
    if constant := [table.features[i] for i in np.flatnonzero(described.constant)]:
        plural = "columns are constant: the network does not see them"
        singular = "column is constant: the network does not see it"
        found.append(f"{len(constant)} {singular if len(constant) == 1 else plural} ({quoted(constant)})")
    return found


def quoted(names: Sequence[str], most: int = 12) -> str:
    """List names for a message: 'a', 'b' and 3 more."""
    listed = ", ".join(f"'{name}'" for name in names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed or "nothing"


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of the known names, or an empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""
