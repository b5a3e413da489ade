"""Statistics of columns, and warnings about columns that a fit cannot use well."""

from dataclasses import dataclass

import numpy as np

from model.table.dataset import Float32Array, FloatArray, Table
from tabular.names import quote_names


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of columns: arrays of shape (columns,), float64."""

    mean: FloatArray
    std: FloatArray
    min: FloatArray
    max: FloatArray
    median: FloatArray

    @property
    def constant(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether each column is constant up to rounding errors, (columns,)."""
        return self.std <= np.maximum(1e-6 * np.abs(self.mean), np.finfo(np.float32).tiny)

    @property
    def scale(self) -> FloatArray:
        """1 / std, or 0 for a constant column, which then has no effect on the network."""
        return np.where(self.constant, 0.0, 1.0 / np.where(self.constant, 1.0, self.std))


def column_statistics(values: Float32Array | FloatArray) -> ColumnStatistics:
    """Return the statistics of values, (rows, columns), computed in float64."""
    # One column at a time is converted to float64, to save memory.
    columns = (column.astype(np.float64) for column in values.T)
    statistics = [(c.mean(), c.std(), c.min(), c.max(), np.median(c)) for c in columns]
    return ColumnStatistics(*np.array(statistics).T)


def column_warnings(table: Table, statistics: ColumnStatistics) -> list[str]:
    """Return a warning for each column that float32 rounds, and one for the constant columns."""
    largest = np.maximum(abs(statistics.min), abs(statistics.max))
    spacing = np.spacing(largest.astype(np.float32)).astype(np.float64)
    rounded = spacing > 1e-3 * statistics.std
    rounded |= (np.array(table.kinds) == "integer") & (spacing > 1)
    warnings = [
        f"column '{table.features[i]}': float32 rounds values near {statistics.mean[i]:.7g} to the "
        f"nearest {spacing[i]:.2g}, and their standard deviation is {statistics.std[i]:.3g}; "
        "subtract a constant before training"
        for i in np.flatnonzero(rounded & (statistics.min < statistics.max))
    ]
    if constant := [table.features[i] for i in np.flatnonzero(statistics.constant)]:
        noun = "column" if len(constant) == 1 else "columns"
        names = quote_names(constant)
        warnings.append(f"{len(constant)} constant {noun}, which the network ignores ({names})")
    return warnings
