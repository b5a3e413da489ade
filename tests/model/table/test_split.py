"""Tests of model.table.split: the sizes and the class shares of the parts."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.table.dataset import Table
from model.table.load import MIN_ROWS, MIN_ROWS_PER_CLASS
from model.table.split import split
from tests.model.tables import make_table

SHARES = (("train", 0.64), ("validation", 0.16), ("test", 0.20))


def table_of(y: NDArray[np.float64] | NDArray[np.int64], classes: int = 0) -> Table:
    """Make a table with these targets."""
    x = np.zeros((len(y), 1), np.float32)
    return dataclasses.replace(make_table(), x=x, y=y, classes=tuple(range(classes)))


def check_partition(parts: dict[str, NDArray[np.int64]], rows: int) -> None:
    """Assert that every row is in exactly one part."""
    together = np.concatenate(list(parts.values()))
    assert list(range(rows)) == sorted(together.tolist())


@st.composite
def labels(draw: st.DrawFn) -> NDArray[np.int64]:
    """Draw class indices that satisfy the minimum row counts of load_table."""
    counts = draw(st.lists(st.integers(3, 40), min_size=2, max_size=8))
    needed = max(MIN_ROWS, MIN_ROWS_PER_CLASS * len(counts))
    counts[0] += max(0, needed - sum(counts))
    order = np.random.default_rng(draw(st.integers(0, 9)))
    return order.permutation(np.repeat(np.arange(len(counts)), counts))


@settings(deadline=None)
@given(st.integers(MIN_ROWS, 500), st.integers(0, 2**32 - 1))
def test_parts_have_their_shares(rows: int, seed: int) -> None:
    """Training, validation and test parts hold 64, 16 and 20 percent of the rows."""
    parts = split(table_of(np.zeros((rows, 1))), seed)
    check_partition(parts, rows)
    for name, share in SHARES:
        assert abs(share * rows - len(parts[name])) < 2


@settings(deadline=None)
@given(labels(), st.integers(0, 2**32 - 1))
def test_parts_are_stratified(y: NDArray[np.int64], seed: int) -> None:
    """Each part has every class, and its share of each class to within two rows."""
    counts = np.bincount(y)
    parts = split(table_of(y, len(counts)), seed)
    check_partition(parts, len(y))
    for name, share in SHARES:
        part_counts = np.bincount(y[parts[name]], minlength=len(counts))
        assert (abs(share * counts - part_counts) < 2).all()
        assert (part_counts > 0).all()
