"""Sweeps over correct networks of many widths and input scales, which must all pass."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from export.proof import numerical
from export.proof.bound import Float32Array
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.numerical import Comparison
from export.proof.onnx_structure import prove_onnx
from export.proof.runtimes import torch_runtime
from export.proof.torchscript_structure import prove_torchscript
from export.to_onnx import serialized, to_onnx
from export.to_torchscript import load_torchscript, rezip, script
from model.run import net_from_weights
from service.artifact.manifest import OUTPUTS
from service.runtime.session import Session
from tests.mutants.networks import Shape, random_weights
from tests.mutants.tensors import Floats

SCALES = tuple(range(-30, 31, 5))
"""Input scales, as exponents of ten."""
REGIMES = ("matched", "raw", "offset")
"""Standardised rows, unscaled rows, and rows with a mean of a million standard deviations."""
MAX_ROWS = 4096
MAX_LAYER_PRODUCTS = 2**28
"""Maximum number of multiplications in the first layer over all rows of a draw."""
MAX_CASE_ELEMENTS = 2**21
"""Maximum number of elements of the widest layer over all rows of one case."""


@dataclass(frozen=True)
class Draw:
    """Parameters from which one random network and its rows are drawn."""

    shape: Shape
    exponent: int
    regime: str
    seed: int


def draws(shape: Shape, seeds: int, scales: Sequence[int] = SCALES) -> Iterator[Draw]:
    """Yield `seeds` draws of one shape for every scale and regime."""
    for exponent, regime, seed in itertools.product(scales, REGIMES, range(seeds)):
        yield Draw(shape, exponent, regime, seed)


def sweep(draw: Draw, max_rows: int = MAX_ROWS) -> list[Comparison]:
    """Return comparisons of ONNX Runtime and TorchScript with the reference on one network.

    Raises:
        ProofError: an exported file does not contain the network.
    """
    weights, rows = network(draw, max_rows)
    content = onnx_of(draw.shape, weights)
    prove_onnx(content, weights)
    module = load_torchscript(rezip(script(net_from_weights(weights))))
    prove_torchscript(module, weights)
    runtimes = {
        "onnxruntime": Session(content).run,
        "torchscript": torch_runtime(module, list(OUTPUTS[draw.shape.task])),
    }
    step = max(1, MAX_CASE_ELEMENTS // max(draw.shape.in_features, draw.shape.hidden_features))
    cases = [Case(f"{draw}, row {i}", rows[i : i + step]) for i in range(0, len(rows), step)]
    return list(numerical.sweep(cases, runtimes, weights))


def network(draw: Draw, max_rows: int) -> tuple[dict[str, Floats], Float32Array]:
    """Draw the tensors, and rows (rows, in_features) whose magnitudes differ by powers of ten."""
    shape, scale = draw.shape, 10.0**draw.exponent
    d, raw = shape.in_features, draw.regime == "raw"
    rng = np.random.default_rng(
        [draw.seed, draw.exponent + 100, REGIMES.index(draw.regime), d, shape.hidden_features]
    )
    spread = scale * rng.uniform(0.5, 2, d)
    mean = {"matched": 1.0, "raw": 0.0, "offset": 1e6}[draw.regime] * spread * rng.normal(size=d)
    count = max(16, min(max_rows, MAX_LAYER_PRODUCTS // shape.products))
    sizes = 10.0 ** rng.normal(scale=0 if draw.regime == "matched" else 2.5, size=(count, 1))
    with np.errstate(over="ignore"):
        rows = (mean + spread * sizes * rng.normal(size=(count, d))).astype(np.float32)
    scaling = (np.zeros(d), np.ones(d)) if raw else (mean, 1 / spread)
    return random_weights(shape, rng, *scaling, unit=1 if raw else scale), rows


@functools.lru_cache(maxsize=4)
def _template(shape: Shape) -> bytes:
    """Export one network of a shape; cached, because torch's exporter takes seconds."""
    d = shape.in_features
    weights = random_weights(shape, np.random.default_rng(0), np.zeros(d), np.ones(d), unit=1)
    return to_onnx(net_from_weights(weights))


def onnx_of(shape: Shape, weights: Weights) -> bytes:
    """Return model.onnx for these weights, by replacing the tensors of an exported template."""
    model = onnx.load_model_from_string(_template(shape))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return serialized(model)


def count_rows(comparisons: Sequence[Comparison]) -> tuple[int, int]:
    """Return the number of rows in float32's range, and the number out of range."""
    scores = [c for c in comparisons if c.output in ("output", "logits")]
    rows = [c for c in scores if c.runtime == "onnxruntime"]
    out_of_range = sum(c.rows_out_of_range for c in rows)
    return sum(c.rows for c in rows) - out_of_range, out_of_range


def figures(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Return the row counts of a sweep, and the largest ratios of error to bound by runtime."""
    rows = dict(zip(("healthy_rows", "rows_out_of_range"), count_rows(comparisons), strict=True))
    return rows | {
        f"{name}, {runtime}": max(getattr(c, name) for c in comparisons if c.runtime == runtime)
        for name in ("max_error_over_bound", "max_error_over_probable_bound")
        for runtime in ("onnxruntime", "torchscript")
    }
