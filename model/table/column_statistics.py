"""TODO: model.table.column_statistics."""

from dataclasses import dataclass

import numpy as np

from model.table.dataset import Float32Array, FloatArray, Table
from tabular.names import quote_names


@dataclass(frozen=True)
class ColumnStatistics:
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


def column_statistics(values: Float32Array | FloatArray) -> ColumnStatistics:
    """Describe the columns of values, (rows, columns), in float64, a column at a time to spare memory."""
    columns = (column.astype(np.float64) for column in values.T)
    described = [(c.mean(), c.std(), c.min(), c.max(), np.median(c)) for c in columns]
    return ColumnStatistics(*np.array(described).T)


def column_warnings(table: Table, described: ColumnStatistics) -> list[str]:
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
        found.append(
            f"{len(constant)} {singular if len(constant) == 1 else plural} ({quote_names(constant)})"
        )
    return found
