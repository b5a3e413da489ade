"""Changes to tensors, shared by the mutants of every file that stores tensors."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tests.mutants.subject import DoesNotApplyError

Floats = NDArray[np.float32]
Change = Callable[[Floats], Floats]

W1, B1 = "net.linear1.weight", "net.linear1.bias"
W2, B2 = "net.linear2.weight", "net.linear2.bias"


def first(change: Callable[[np.float32], float]) -> Change:
    """Return a change that applies to the first element only."""

    def apply(values: Floats) -> Floats:
        values.flat[0] = change(values.flat[0])
        return values

    return apply


one_ulp = first(lambda v: np.nextafter(v, np.float32(np.inf)))


def transpose(values: Floats) -> Floats:
    """Transpose a square matrix."""
    if values.shape[0] != values.shape[1]:
        raise DoesNotApplyError
    return values.T


def swap_rows(values: Floats) -> Floats:
    """Exchange the first and last rows."""
    values[[0, -1]] = values[[-1, 0]]
    return values


def double_first_row(values: Floats) -> Floats:
    """Double the weights of the first hidden unit."""
    values[0] *= 2
    return values


def flush_subnormals(values: Floats) -> Floats:
    """Replace subnormal values by zero."""
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)


COMMON: dict[str, tuple[str, Change]] = {
    "one weight off by one ULP": (W1, one_ulp),
    "one weight +1 %": (W2, first(lambda v: float(v) * 1.01)),
    "a weight is NaN": (W2, first(lambda v: np.nan)),
    "a weight is infinite": (W1, first(lambda v: np.inf)),
    "a weight's sign is lost": (W1, np.abs),
    "two rows of W1 swapped": (W1, swap_rows),
    "two columns of W1 swapped": (W1, lambda v: swap_rows(v.T).T),
    "W1 transposed": (W1, transpose),
    "a bias permuted": (B1, lambda v: np.roll(v, 1)),
    "a bias is zero": (B2, lambda v: v * 0),
    "weights through float16": (W2, lambda v: v.astype(np.float16).astype(np.float32)),
    "a zero is negative": ("scale", lambda v: np.where(v == 0, np.float32(-0.0), v)),
    "a scale's sign is wrong": ("scale", first(lambda v: -float(v))),
    "subnormals flushed": (W2, flush_subnormals),
    "scale from another run": ("scale", lambda v: v * np.float32(1.25)),
    "shift from another run": ("shift", lambda v: v + np.float32(0.125)),
    "output scale is 1": ("output_scale", lambda v: v * 0 + 1),
}
"""By mutant name: the tensor and its change. They apply to every file that stores tensors."""


def apply_change(weights: Mapping[str, Floats], name: str, change: Change) -> Floats:
    """Return the changed copy of a tensor as float32.

    Raises:
        DoesNotApplyError: the tensor does not exist, or the change leaves its bits unchanged.
    """
    if name not in weights:
        raise DoesNotApplyError
    new = np.ascontiguousarray(change(weights[name].copy()), np.float32)
    if new.tobytes() == weights[name].tobytes():
        raise DoesNotApplyError
    return new
