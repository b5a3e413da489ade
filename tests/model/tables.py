"""A small table for the tests of training."""

import numpy as np

from model.table.dataset import Table

CLASSES = ("cheap", "dear")


def make_table(classes: tuple[str, ...] = (), rows: int = 100) -> Table:
    """Make a table with the features year, constant 0.1, Unix days and noise.

    A regression target is linear in the features; a class tells whether it exceeds 1e5.
    """
    rng = np.random.default_rng(0)
    year, days = rng.integers(1990, 2020, rows), rng.integers(18_000, 20_000, rows)
    noise = rng.normal(size=rows)
    x = np.stack([year, np.full(rows, 0.1), days, noise], axis=1).astype(np.float32)
    y = 1e5 + 300 * (year - 2005.0) + 5 * (days - 19_000.0) + 1000 * noise
    return Table(
        name="t",
        task="classification" if classes else "regression",
        features=("year", "constant", "days", "noise"),
        kinds=("integer", "float", "integer", "float"),
        x=x,
        targets=("price €",),
        y=(y > 1e5).astype(np.int64) if classes else y[:, None],
        classes=classes,
        notes=("note",),
    )
