"""How tensors go wrong, wherever they are stored: functions from an array to another of the same shape."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.mutants.subject import DoesNotApplyError

Floats = NDArray[np.float32]
Change = Callable[[Floats], Floats]

W1, B1 = "net.linear1.weight", "net.linear1.bias"
W2, B2 = "net.linear2.weight", "net.linear2.bias"


def one(value: Callable[[float], float]) -> Change:
    """Return a change of the first element alone."""

    def change(values: Floats) -> Floats:
        values.flat[0] = value(float(values.flat[0]))
        return values

    return change


def one_ulp(values: Floats) -> Floats:
    """Move one value to its neighbour."""
    values.flat[0] = np.nextafter(values.flat[0], np.float32(np.inf))
    return values


def bfloat16(values: Floats) -> Floats:
    """Cut the mantissa to 7 bits."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def float16(values: Floats) -> Floats:
    """Round the mantissa to 10 bits, and the exponent to 5."""
    return values.astype(np.float16).astype(np.float32)


def int8(values: Floats) -> Floats:
    """Quantise to 255 steps, as a quantiser of weights does."""
    step = float(np.abs(values).max()) / 127
    return np.asarray(np.round(values / step) * step, np.float32)


def transposed(values: Floats) -> Floats:
    """Transpose a square matrix."""
    if values.shape[0] != values.shape[1]:
        raise DoesNotApplyError
    return values.T


def rows_swapped(values: Floats) -> Floats:
    """Exchange the first two rows."""
    if len(values) < 2:
        raise DoesNotApplyError
    values[[0, 1]] = values[[1, 0]]
    return values


def columns_swapped(values: Floats) -> Floats:
    """Exchange the first and the last column."""
    values[:, [0, -1]] = values[:, [-1, 0]]
    return values


def first_row_doubled(values: Floats) -> Floats:
    """Double the weights of the first hidden unit."""
    values[0] *= 2
    return values


def rolled(values: Floats) -> Floats:
    """Move every value by one place."""
    return np.roll(values, 1)


def zero_negated(values: Floats) -> Floats:
    """Give the zeros a sign that no comparison of numbers sees."""
    return np.where(values == 0, np.float32(-0.0), values)


def subnormals_flushed(values: Floats) -> Floats:
    """Put zero for what is too small to be normal."""
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)


COMMON: dict[str, tuple[str, Change]] = {
    "one weight off by one ULP": (W1, one_ulp),
    "one weight +1 %": (W2, one(lambda v: v * 1.01)),
    "a weight is NaN": (W2, one(lambda v: np.nan)),
    "a weight is infinite": (W1, one(lambda v: np.inf)),
    "a weight's sign is lost": (W1, lambda v: np.abs(v)),
    "two rows of W1 swapped": (W1, rows_swapped),
    "two columns of W1 swapped": (W1, columns_swapped),
    "W1 transposed": (W1, transposed),
    "a bias permuted": (B1, rolled),
    "a bias is zero": (B2, lambda v: v * 0),
    "weights through bfloat16": (W1, bfloat16),
    "weights through float16": (W2, float16),
    "weights through int8": (W1, int8),
    "a zero is negative": ("scale", zero_negated),
    "subnormals flushed": (W2, subnormals_flushed),
    "scale from another run": ("scale", lambda v: v * np.float32(1.25)),
    "shift from another run": ("shift", lambda v: v + np.float32(0.125)),
    "output scale is 1": ("output_scale", lambda v: v * 0 + 1),
}
"""By name: the tensor and the change, as they may befall any file that holds the tensors."""


def changed(weights: dict[str, Floats], name: str, change: Change) -> Floats:
    """Return the changed tensor, of the same shape.

    Raises:
        DoesNotApplyError: there is no such tensor, or the change leaves its bits as they are.
    """
    if name not in weights:
        raise DoesNotApplyError
    new = np.ascontiguousarray(change(weights[name].copy()), np.float32)
    if new.tobytes() == weights[name].tobytes():
        raise DoesNotApplyError
    return new
