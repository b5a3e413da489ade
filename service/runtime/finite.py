"""A fast check of arrays for NaN and infinity."""

import math

import numpy as np
from numpy.typing import NDArray

MAX_BLAS_VALUES = 1 << 12
"""Maximum number of values for which BLAS computes a dot product in the calling thread alone."""


def all_finite(values: NDArray[np.floating]) -> bool:
    """Return whether every value is finite.

    For small arrays one BLAS call replaces two passes of NumPy: the sum of squares is finite only
    if every value is. It is vdot() because dot() warns when the sum overflows.
    """
    if values.size <= MAX_BLAS_VALUES and math.isfinite(np.vdot(values, values)):
        return True
    return bool(np.isfinite(values).all())
