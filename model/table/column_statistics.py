"""Statistics of columns, and warnings about columns that a fit cannot use well."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import DataError
from model.table.dataset import Float32Array, FloatArray, Table
from tabular.names import quote_names
from tabular.number_format import format_number

MAX_SPACING_PER_DEVIATION = 1e-3
"""Largest distance of neighbouring float32 numbers without a warning, in standard deviations."""
MAX_SPACING_PER_ERROR = 0.5
"""Largest distance of neighbouring float32 answers without a warning, in errors of the network.

Rounding to the nearest multiple of half an error increases the error by 1 percent.
"""

MAX_USABLE_SPACING = 12**0.5
"""Largest distance of neighbouring float32 answers that can be used, in standard deviations.

Above this, rounding alone causes larger errors than predicting the mean.
"""


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

    @property
    def float32_spacing(self) -> FloatArray:
        """Distance between neighbouring float32 numbers at each column's largest magnitude."""
        largest = np.maximum(abs(self.min), abs(self.max)).astype(np.float32)
        return np.spacing(largest).astype(np.float64)


def column_statistics(values: Float32Array | FloatArray) -> ColumnStatistics:
    """Return the statistics of values, (rows, columns), computed in float64."""
    # One column at a time is converted to float64, to save memory.
    columns = (column.astype(np.float64) for column in values.T)
    statistics = [(c.mean(), c.std(), c.min(), c.max(), np.median(c)) for c in columns]
    return ColumnStatistics(*np.array(statistics).T)


def column_warnings(table: Table, statistics: ColumnStatistics) -> list[str]:
    """Return a warning for each feature that float32 rounds, and one for the constant features."""
    spacing, constant = statistics.float32_spacing, statistics.constant
    rounded = spacing > MAX_SPACING_PER_DEVIATION * statistics.std
    rounded |= (np.array(table.kinds) == "integer") & (spacing > 1)
    rounded &= statistics.min < statistics.max
    warnings = []
    for i in np.flatnonzero(rounded):
        effect = ", so the network ignores the column" if constant[i] else ""
        reason = f"their standard deviation is {format_number(statistics.std[i])}{effect}"
        name = f"column '{table.features[i]}'"
        warnings.append(_rounding_warning(name, "values", statistics.mean[i], spacing[i], reason))
    if ignored := [table.features[i] for i in np.flatnonzero(constant & ~rounded)]:
        noun = "column" if len(ignored) == 1 else "columns"
        names = quote_names(ignored)
        warnings.append(f"{len(ignored)} constant {noun}, which the network ignores ({names})")
    return warnings


def answer_warnings(
    targets: Sequence[str], statistics: ColumnStatistics, errors: FloatArray | None = None
) -> list[str]:
    """Return a warning for each target of which float32 answers are coarse.

    The distance between neighbouring answers is compared with the network's root mean squared
    errors, (targets,), or before the fit with the standard deviations of the targets.
    """
    if errors is None:
        return _coarse_answers(targets, statistics, MAX_SPACING_PER_DEVIATION)
    size = "the network's rmse on the test rows"
    return _coarse_answers(targets, statistics, MAX_SPACING_PER_ERROR, size, errors)


def check_targets(targets: Sequence[str], statistics: ColumnStatistics) -> None:
    """Raise a DataError for a target that varies too little for answers in float32."""
    for warning in _coarse_answers(targets, statistics, MAX_USABLE_SPACING):
        raise DataError(warning)


def _coarse_answers(
    targets: Sequence[str],
    statistics: ColumnStatistics,
    limit: float,
    subject: str = "their standard deviation",
    sizes: FloatArray | None = None,
) -> list[str]:
    """Return a warning for each target of which float32's spacing is more than limit * size."""
    sizes = statistics.std if sizes is None else sizes
    spacing = statistics.float32_spacing
    coarse = (spacing > limit * sizes) & (statistics.min < statistics.max)
    reasons = [f"{subject} is {format_number(size)}" for size in sizes]
    return [
        _rounding_warning(
            f"target '{targets[i]}'", "answers", statistics.mean[i], spacing[i], reasons[i]
        )
        for i in np.flatnonzero(coarse).tolist()
    ]


def _rounding_warning(name: str, values: str, near: float, spacing: float, reason: str) -> str:
    return (
        f"{name}: float32 rounds {values} near {format_number(near)} to the nearest "
        f"{format_number(spacing)}, and {reason}; subtract a constant before training"
    )
