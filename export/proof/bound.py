"""The network in float64, and how far from it IEEE float32 arithmetic may land, element by element.

The bound holds for any order of summation, with or without fused multiply-add (docs/numerics.md).

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1: a computed inner
product of n terms is within gamma_n |x|^T |y| of the exact one, gamma_n = n u / (1 - n u). The softmax term is
derived in docs/numerics.md, after Blanchard, Higham and Higham, Accurately computing the log-sum-exp and softmax
functions, IMA Journal of Numerical Analysis 41 (2021).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Gamma = Callable[[int], float]
"""The share of its terms' magnitudes by which a sum of n products may be off."""
UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff of float32."""
SMALLEST_SUBNORMAL = 2.0**-149
"""Smallest positive float32: the most that a product loses when it underflows."""
SMALLEST_NORMAL = 2.0**-126
"""Smallest normal float32."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)
EXP_ERROR_UNITS = 4
"""Error of the runtime's exp in units of U: a stated assumption, not a derived one."""
INFLATION = 1 + 2.0**-20
"""Covers the rounding of the float64 evaluation itself."""


@dataclass(frozen=True)
class Reference:
    """What a runtime must answer to some rows."""

    values: Mapping[str, FloatArray]
    """By output name, (rows, out_features): the network evaluated in float64 over its float32 constants."""
    bounds: Mapping[str, FloatArray]
    """Likewise: the largest |answer - value| that rounding explains."""
    accepted: BoolArray | None
    """(rows, classes): the labels that rounding explains; None for regression."""
    in_range: BoolArray
    """(rows,): no intermediate can overflow float32, so the bound speaks; elsewhere it says nothing."""


def gamma(n: int) -> float:
    """Return gamma_n of Higham 3.1."""
    return n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)


def probable_gamma(n: int) -> float:
    """Return min(gamma_n, 4 sqrt(n) u): errors that are independent of each other grow like sqrt(n), not n.

    Sources: Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM Journal on Scientific
    Computing 41 (2019); Ipsen and Zhou, arXiv 1906.10465. A bound that is probable, so a warning and no gate.
    """
    return min(gamma(n), 4 * math.sqrt(n) * UNIT_ROUNDOFF)


def reference(
    weights: Mapping[str, Float32Array], x: Float32Array, gamma: Gamma = gamma
) -> Reference:
    """Evaluate the network in float64 and propagate the bound of each stage through the next.

    Args:
        weights: the tensors of weights.safetensors by name; output_scale is there for regression.
        x: raw rows, (rows, in_features); one that is not finite is out of range.
        gamma: gamma for the bound B, which always holds, or probable_gamma for the probable one.
    """
    finite: BoolArray = np.asarray(np.isfinite(x).all(axis=1))
    x = np.where(finite[:, None], x, np.float32(0))
    shift, scale = _wide(weights, "shift"), _wide(weights, "scale")
    w1, b1 = _wide(weights, "net.linear1.weight"), _wide(weights, "net.linear1.bias")
    w2, b2 = _wide(weights, "net.linear2.weight"), _wide(weights, "net.linear2.bias")

    # scaling: z = fl(fl(x - shift) * scale), two roundings
    centred = x.astype(np.float64) - shift  # (rows, in_features)
    z = centred * scale
    d0 = gamma(2) * np.abs(z) + SMALLEST_SUBNORMAL
    in_range: BoolArray = (
        finite & _below(np.abs(centred), gamma(1)) & _below(np.abs(z) + d0, gamma(2))
    )

    # layer 1: a = W1 z + b1, an inner product of in_features + 1 terms, over inputs that are off by d0
    a, d1, fits = _layer(z, d0, w1, b1, gamma)  # (rows, hidden_features)
    in_range = in_range & fits

    # ReLU: exact and 1-Lipschitz, so d1 carries over
    h = np.maximum(a, 0)

    # layer 2
    v, d2, fits = _layer(h, d1, w2, b2, gamma)  # (rows, out_features)
    in_range = in_range & fits

    if "output_scale" in weights:
        return _unscaled(weights, v, d2, in_range, gamma)
    p, d4 = _softmax(v, d2)
    return Reference(
        values={"logits": v, "probabilities": p},
        bounds={"logits": d2 * INFLATION, "probabilities": d4 * INFLATION},
        accepted=v + d2 * INFLATION >= (v - d2 * INFLATION).max(axis=1, keepdims=True),
        in_range=in_range,
    )


def _layer(
    x: FloatArray, d: FloatArray, weight: FloatArray, bias: FloatArray, gamma: Gamma
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return y = W x + b, its bound given that x is off by at most d, and which rows cannot overflow."""
    n = weight.shape[1]
    magnitude = (np.abs(x) + d) @ np.abs(weight).T + np.abs(bias)
    bound = gamma(n + 1) * magnitude + d @ np.abs(weight).T + n * SMALLEST_SUBNORMAL
    return x @ weight.T + bias, bound, _below(magnitude, gamma(n + 1))


def _unscaled(
    weights: Mapping[str, Float32Array],
    v: FloatArray,
    d2: FloatArray,
    in_range: BoolArray,
    gamma: Gamma,
) -> Reference:
    """Unscaling: y = fl(fl(v * scale) + shift), two roundings."""
    scale, shift = _wide(weights, "output_scale"), _wide(weights, "output_shift")
    magnitude = np.abs(scale) * (np.abs(v) + d2) + np.abs(shift)
    d3 = np.abs(scale) * d2 + gamma(2) * magnitude + SMALLEST_SUBNORMAL
    return Reference(
        values={"output": v * scale + shift},
        bounds={"output": d3 * INFLATION},
        accepted=None,
        in_range=in_range & _below(magnitude, gamma(2)),
    )


def _softmax(v: FloatArray, d2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return softmax over the classes and its bound, given that v is off by at most d2.

    In log space: p exp(2 m) as a product is 0 times infinity once p underflows and m overflows exp.
    """
    classes = v.shape[1]
    top = v.max(axis=1, keepdims=True)
    log_p = v - top - np.log(np.exp(v - top).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    m = d2.max(axis=1, keepdims=True)
    moved = np.maximum(np.exp(np.minimum(0, log_p + 2 * m)) - p, p - np.exp(log_p - 2 * m))
    rounded = (
        p * (classes + math.log(classes) + 2 * EXP_ERROR_UNITS + 2) * UNIT_ROUNDOFF
        + UNIT_ROUNDOFF / math.e
        + classes * SMALLEST_NORMAL
    )
    return p, moved + rounded


def _below(magnitude: FloatArray, growth: float) -> BoolArray:
    """Say for which rows the whole of a stage, grown by its roundings, stays below the largest float32."""
    return np.asarray((magnitude * (1 + growth) < MAX_FLOAT32).all(axis=1))


def _wide(weights: Mapping[str, Float32Array], name: str) -> FloatArray:
    return weights[name].astype(np.float64)
