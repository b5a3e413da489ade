"""Sweeps of healthy networks, of every width and input scale: no answer may be rejected."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from export.proof.bound import Float32Array, probable_gamma, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.numerical import compare_outputs
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
"""Exponents of ten of the input scale."""
REGIMES = ("matched", "raw", "offset")
"""Standardised rows; rows without scaling; rows whose mean is a million times their spread."""
MAX_ROWS = 4096
MAX_LAYER_PRODUCTS = 2**28
"""Products of the first layer over all rows of a draw: wide networks get fewer rows."""
MAX_SLICE_ELEMENTS = 2**21
"""Elements of the widest layer that are evaluated at a time in float64."""


@dataclass(frozen=True)
class Draw:
    """One network and its rows."""

    shape: Shape
    exponent: int
    regime: str
    seed: int


@dataclass
class Tally:
    """The result of a sweep; figures over the rows in range."""

    draws: int = 0
    rows: int = 0
    out_of_range: int = 0
    false_alarms: list[str] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)
    """By runtime: the largest error / bound."""
    worst_probable: dict[str, float] = field(default_factory=dict)
    """By runtime: the largest error / probable bound."""

    def add(self, other: "Tally") -> None:
        """Add the result of another sweep."""
        self.draws += other.draws
        self.rows += other.rows
        self.out_of_range += other.out_of_range
        self.false_alarms += other.false_alarms
        for mine, others in (
            (self.worst, other.worst),
            (self.worst_probable, other.worst_probable),
        ):
            for runtime, ratio in others.items():
                mine[runtime] = max(mine.get(runtime, 0.0), ratio)


def draws(shape: Shape, seeds: int) -> Iterator[Draw]:
    """Return networks of one shape: some for every scale and regime."""
    for exponent, regime, seed in itertools.product(SCALES, REGIMES, range(seeds)):
        yield Draw(shape, exponent, regime, seed)


def sweep(draw: Draw, max_rows: int = MAX_ROWS) -> Tally:
    """Compare the session that serves and TorchScript with the reference on one network.

    Raises:
        ProofError: a file is not the network; then the sweep would prove nothing.
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
    total = Tally(draws=1)
    step = max(1, MAX_SLICE_ELEMENTS // max(draw.shape.in_features, draw.shape.hidden_features))
    for start in range(0, len(rows), step):
        case = Case(f"{draw}, from row {start}", rows[start : start + step])
        expected = reference(weights, case.rows)
        probable = reference(weights, case.rows, probable_gamma).bounds
        in_range = int(expected.in_range.sum())
        total.add(Tally(rows=in_range, out_of_range=len(case.rows) - in_range))
        for name, runtime in runtimes.items():
            for c in compare_outputs(case, name, runtime(case.rows), expected, probable):
                alarm = f"{name}, {case.name}: {c.output} at {c.worst}"
                total.add(
                    Tally(
                        false_alarms=[] if c.passed else [alarm],
                        worst={name: c.max_error_over_bound},
                        worst_probable={name: c.max_error_over_probable_bound},
                    )
                )
    return total


def network(draw: Draw, max_rows: int) -> tuple[dict[str, Floats], Float32Array]:
    """Draw the tensors and the rows, whose own sizes spread over decades: (rows, in_features)."""
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
    """Export a network of this shape once: torch's exporter takes seconds."""
    d = shape.in_features
    weights = random_weights(shape, np.random.default_rng(0), np.zeros(d), np.ones(d), unit=1)
    return to_onnx(net_from_weights(weights))


def onnx_of(shape: Shape, weights: Weights) -> bytes:
    """Return the model.onnx of a network: an exported one of its shape, with its tensors."""
    model = onnx.load_model_from_string(_template(shape))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return serialized(model)
