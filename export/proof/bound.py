"""The network in float64, and a bound on the rounding error of float32 runtimes per element.

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
"""Function of n: maximum error of a sum of n products, relative to the sum of magnitudes."""
UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff u of float32."""
SMALLEST_SUBNORMAL = 2.0**-149
"""Smallest positive float32, which is the maximum error of a product that underflows."""
SMALLEST_NORMAL = 2.0**-126
"""Smallest normal float32."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)
"""Largest finite float32."""
EXP_ERROR_UNITS = 4
"""Assumed maximum relative error of a runtime's exp, in units of u."""
INFLATION = 1 + 2.0**-20
"""Factor on every bound, which covers rounding errors of the float64 evaluation."""


@dataclass(frozen=True)
class Reference:
    """The outputs that a runtime must compute for some rows."""

    values: Mapping[str, FloatArray]
    """Outputs of the network in float64, (rows, out_features), by output name."""
    bounds: Mapping[str, FloatArray]
    """Maximum rounding error of each element of `values`, with the same shapes."""
    accepted: BoolArray | None
    """Whether a label is correct within rounding, (rows, classes); None for regression."""
    in_range: BoolArray
    """Whether a row cannot overflow float32, (rows,). The bounds hold only for such rows."""


def gamma(n: int) -> float:
    """Return gamma_n = n u / (1 - n u), the bound on the relative error of n roundings."""
    return n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)


def probable_gamma(n: int) -> float:
    """Return min(gamma_n, 4 sqrt(n) u), because independent errors grow like sqrt(n), not n.

    The bound derived from it holds only with high probability, so a larger error is a warning.
    Sources: Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM Journal
    on Scientific Computing 41 (2019); Ipsen and Zhou, arXiv 1906.10465.
    """
    return min(gamma(n), 4 * math.sqrt(n) * UNIT_ROUNDOFF)


def reference(weights: Weights, x: Float32Array, gamma: Gamma = gamma) -> Reference:
    """Evaluate the network in float64 and propagate the bound of each stage through the next.

    Args:
        weights: tensors of weights.safetensors, with output_scale and output_shift for regression.
        x: raw rows, (rows, in_features); rows with NaN or infinities are out of range.
        gamma: gamma for a bound that always holds, or probable_gamma for the probable bound.
    """
    weights64 = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    is_finite: BoolArray = np.asarray(np.isfinite(x).all(axis=1))
    # The runtime computes z = fl(fl(x - shift) * scale), where fl rounds to float32.
    difference = np.where(is_finite[:, None], x, 0).astype(np.float64) - weights64["shift"]
    z = difference * weights64["scale"]  # (rows, in_features)
    d0 = gamma(2) * np.abs(z) + SMALLEST_SUBNORMAL
    in_range = is_finite & _below_max(np.abs(difference), gamma(1))
    in_range &= _below_max(np.abs(z) + d0, gamma(2))
    a, d1, in_range1 = _layer(weights64, "linear1", z, d0, gamma)  # (rows, hidden_features)
    # ReLU is exact and 1-Lipschitz, so d1 also bounds its error.
    v, d2, in_range2 = _layer(weights64, "linear2", np.maximum(a, 0), d1, gamma)
    in_range &= in_range1 & in_range2

    if "output_scale" in weights:
        # The runtime computes y = fl(fl(v * scale) + shift).
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
    """Return W x + b, its bound for inputs with errors up to d, and which rows cannot overflow."""
    weight, bias = weights[f"net.{layer}.weight"], weights[f"net.{layer}.bias"]
    n = weight.shape[1]
    magnitude = (np.abs(x) + d) @ np.abs(weight).T + np.abs(bias)
    bound = gamma(n + 1) * magnitude + d @ np.abs(weight).T + n * SMALLEST_SUBNORMAL
    return x @ weight.T + bias, bound, _below_max(magnitude, gamma(n + 1))


def _softmax(v: FloatArray, d2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the softmax over the classes, and its bound for logits with errors up to d2.

    The bound uses exp(log p + 2 m), because p exp(2 m) is NaN if p underflows and exp overflows.
    """
    classes = v.shape[1]
    top = v.max(axis=1, keepdims=True)
    log_p = v - top - np.log(np.exp(v - top).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    m = d2.max(axis=1, keepdims=True)
    logits_term = np.maximum(np.exp(np.minimum(0, log_p + 2 * m)) - p, p - np.exp(log_p - 2 * m))
    rounding_term = (
        p * (classes + math.log(classes) + 2 * EXP_ERROR_UNITS + 2) * UNIT_ROUNDOFF
        + UNIT_ROUNDOFF / math.e
        + classes * SMALLEST_NORMAL
    )
    return p, logits_term + rounding_term


def _below_max(magnitude: FloatArray, growth: float) -> BoolArray:
    """Return whether all magnitudes of a row, times 1 + growth, are below the largest float32."""
    return np.asarray((magnitude * (1 + growth) < MAX_FLOAT32).all(axis=1))
