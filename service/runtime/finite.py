"""TODO: service.runtime.finite."""

import math

import numpy as np
from numpy.typing import NDArray

MAX_BLAS_VALUES = 1 << 12
"""Values over which BLAS does not call other threads to help."""


def all_finite(values: NDArray[np.floating]) -> bool:
    """Say whether every value is finite; of a few values, by one call of BLAS instead of two passes of NumPy."""
    if values.size <= MAX_BLAS_VALUES and math.isfinite(
        np.vdot(values, values)
    ):  # dot() would warn of what overflows
        return True
    return bool(np.isfinite(values).all())
