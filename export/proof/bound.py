"""The network in float64, and how far IEEE float32 arithmetic may differ from it, per element.

The bound holds for any order of summation, with or without fused multiply-add (docs/numerics.md).
Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1: a computed
inner product of n terms is within gamma_n |x|^T |y| of the exact one, gamma_n = n u / (1 - n u).
The softmax term is derived in docs/numerics.md, after Blanchard, Higham and Higham, Accurately
computing the log-sum-exp and softmax functions, IMA Journal of Numerical Analysis 41 (2021).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.proof.expected import Weights

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Gamma = Callable[[int], float]
"""The largest relative error of a sum of n products, relative to the sum of their magnitudes."""
UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff u of float32."""
SMALLEST_SUBNORMAL = 2.0**-149
"""Smallest positive float32: the largest error of a product that underflows."""
SMALLEST_NORMAL = 2.0**-126
"""Smallest normal float32."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)
"""Largest finite float32."""
EXP_ERROR_UNITS = 4
"""Error of a runtime's exp in units of u: a stated assumption, not a derived one."""
INFLATION = 1 + 2.0**-20
"""Factor on every bound that covers the rounding of the float64 evaluation itself."""


@dataclass(frozen=True)
class Reference:
    """The answers that a runtime must give to some rows."""

    values: Mapping[str, FloatArray]
    """By output name, (rows, out_features): the network in float64, with its float32 constants."""
    bounds: Mapping[str, FloatArray]
    """By output name, (rows, out_features): the largest |answer - value| that rounding explains."""
    accepted: BoolArray | None
    """(rows, classes): whether rounding explains this label; None for regression."""
    in_range: BoolArray
    """(rows,): whether no intermediate value can overflow float32; elsewhere no bound holds."""


def gamma(n: int) -> float:
    """Return gamma_n of Higham 3.1."""
    return n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)


def probable_gamma(n: int) -> float:
    """Return min(gamma_n, 4 sqrt(n) u): independent errors grow like sqrt(n) rather than n.

    The bound from it holds with high probability only, so exceeding it is a warning.
    Sources: Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM Journal
    on Scientific Computing 41 (2019); Ipsen and Zhou, arXiv 1906.10465.
    """
    return min(gamma(n), 4 * math.sqrt(n) * UNIT_ROUNDOFF)


def reference(weights: Weights, x: Float32Array, gamma: Gamma = gamma) -> Reference:
    """Evaluate the network in float64 and propagate the bound of each stage through the next.

    Args:
        weights: the tensors of weights.safetensors; a regressor's have an output_scale.
        x: raw rows, (rows, in_features); rows that are not finite are out of range.
        gamma: gamma for the bound, which always holds, or probable_gamma for the probable one.
    """
    weights64 = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    finite: BoolArray = np.asarray(np.isfinite(x).all(axis=1))
    # z = fl(fl(x - shift) * scale)
    centred = np.where(finite[:, None], x, np.float32(0)).astype(np.float64) - weights64["shift"]
    z = centred * weights64["scale"]  # (rows, in_features)
    d0 = gamma(2) * np.abs(z) + SMALLEST_SUBNORMAL
    in_range = finite & _below_max(np.abs(centred), gamma(1)) & _below_max(np.abs(z) + d0, gamma(2))
    # layer 1: an inner product of in_features + 1 terms, over inputs with errors up to d0
    a, d1, fits_layer1 = _layer(weights64, "linear1", z, d0, gamma)  # (rows, hidden_features)
    # ReLU is exact and 1-Lipschitz, so d1 carries over.
    v, d2, fits_layer2 = _layer(weights64, "linear2", np.maximum(a, 0), d1, gamma)
    in_range &= fits_layer1 & fits_layer2

    if "output_scale" in weights:
        # y = fl(fl(v * scale) + shift)
        scale, shift = weights64["output_scale"], weights64["output_shift"]
        magnitude = np.abs(scale) * (np.abs(v) + d2) + np.abs(shift)
        d3 = np.abs(scale) * d2 + gamma(2) * magnitude + SMALLEST_SUBNORMAL
        in_range &= _below_max(magnitude, gamma(2))
        return Reference({"output": v * scale + shift}, {"output": d3 * INFLATION}, None, in_range)
    p, d4 = _softmax(v, d2)
    return Reference(
        values={"logits": v, "probabilities": p},
        bounds={"logits": d2 * INFLATION, "probabilities": d4 * INFLATION},
        accepted=v + d2 * INFLATION >= (v - d2 * INFLATION).max(axis=1, keepdims=True),
        in_range=in_range,
    )


def _layer(
    weights: Mapping[str, FloatArray], layer: str, x: FloatArray, d: FloatArray, gamma: Gamma
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return y = W x + b, its bound for inputs with errors up to d, and which rows fit float32."""
    weight, bias = weights[f"net.{layer}.weight"], weights[f"net.{layer}.bias"]
    n = weight.shape[1]
    magnitude = (np.abs(x) + d) @ np.abs(weight).T + np.abs(bias)
    bound = gamma(n + 1) * magnitude + d @ np.abs(weight).T + n * SMALLEST_SUBNORMAL
    return x @ weight.T + bias, bound, _below_max(magnitude, gamma(n + 1))


def _softmax(v: FloatArray, d2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return softmax over the classes, and its bound for logits with errors up to d2.

    The bound is computed in log space: as a product, p exp(2 m) is 0 times infinity once p
    underflows and exp(2 m) overflows.
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


def _below_max(magnitude: FloatArray, growth: float) -> BoolArray:
    """Return for which rows all magnitudes, times 1 + growth, are below the largest float32."""
    return np.asarray((magnitude * (1 + growth) < MAX_FLOAT32).all(axis=1))
