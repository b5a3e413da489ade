"""The healthy side: networks of every width, rows of every scale, and not one false alarm."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.proof.bound import Float32Array, probable_gamma, reference
from export.proof.expected import Weights, expected_wiring, task_of
from export.proof.hard_inputs import Case
from export.proof.numerical import compare_outputs
from export.proof.onnx_structure import prove_onnx
from export.proof.runtimes import _torch_outputs
from export.proof.torchscript_structure import prove_torchscript
from export.to_onnx import canonical, serialized
from export.to_torchscript import load_torchscript
from model.run import net_from_weights
from service.artifact.manifest import INPUT, OUTPUTS
from service.runtime.session import Session
from tests.mutants.networks import Floats, Shape, random_weights
from tests.mutants.script import script_of

SHAPES = (
    Shape("regression", 1, 1, 1),
    Shape("classification", 1, 2, 2),
    Shape("regression", 3, 16, 2),
    Shape("classification", 4, 4, 3),
    Shape("classification", 64, 100, 10),
    Shape("regression", 1000, 100, 10),
    Shape("regression", 1, 4096, 1),
    Shape("classification", 50, 4096, 3),
    Shape("regression", 4096, 1, 1),
    Shape("classification", 4096, 64, 2),
    Shape("classification", 4096, 4096, 2),
)
SCALES = tuple(range(-30, 31, 5))
"""Powers of ten."""
REGIMES = ("matched", "raw", "offset")
"""Standardised rows; rows that no one scaled; rows that cancel, their mean a million times their spread."""
MOST_ROWS = 4096
MOST_PRODUCTS = 2**28
"""Of layer 1 and one case: what a wide network is asked is shorter."""
SLICE = 2**21
"""Elements of the widest layer evaluated at a time in float64."""


@dataclass(frozen=True)
class Draw:
    """One network, and the rows that it is asked."""

    shape: Shape
    exponent: int
    regime: str
    seed: int


@dataclass
class Tally:
    """What a sweep found; figures over the rows in range."""

    draws: int = 0
    rows: int = 0
    out_of_range: int = 0
    false_alarms: list[str] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)
    """By runtime: the largest error / bound."""
    worst_probable: dict[str, float] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Take in another sweep."""
        self.draws += other.draws
        self.rows += other.rows
        self.out_of_range += other.out_of_range
        self.false_alarms += other.false_alarms
        for mine, theirs in (
            (self.worst, other.worst),
            (self.worst_probable, other.worst_probable),
        ):
            for runtime, ratio in theirs.items():
                mine[runtime] = max(mine.get(runtime, 0.0), ratio)


def draws(shape: Shape, seeds: int) -> Iterator[Draw]:
    """List what one shape is asked: every scale and regime, each with networks of its own."""
    for exponent, regime, seed in itertools.product(SCALES, REGIMES, range(seeds)):
        yield Draw(shape, exponent, regime, seed)


def sweep(draw: Draw, most_rows: int = MOST_ROWS) -> Tally:
    """Ask the session that serves and torch.jit.load one network, and hold every answer to the bound.

    Raises:
        ProofError: a file is not the network; then the sweep would show nothing.
    """
    weights, rows = network(draw, most_rows)
    content = onnx_of(weights)
    prove_onnx(content, weights)
    module = load_torchscript(script_of(net_from_weights(weights)))
    prove_torchscript(module, weights)
    session, names = Session(content), list(OUTPUTS[draw.shape.task])
    tally = Tally(draws=1, rows=len(rows))
    step = max(1, SLICE // max(draw.shape.in_features, draw.shape.hidden_features))
    for start in range(0, len(rows), step):
        case = Case(f"{draw}, from row {start}", rows[start : start + step])
        expected = reference(weights, case.rows)
        probable = reference(weights, case.rows, probable_gamma).bounds
        tally.out_of_range += int((~expected.in_range).sum())
        answers = {
            "onnxruntime": session.run(case.rows),
            "torchscript": _torch_outputs(module, names, case.rows),
        }
        for runtime, answer in answers.items():
            for found in compare_outputs(case, runtime, answer, expected, probable):
                if not found.passed:
                    tally.false_alarms.append(
                        f"{runtime}, {case.name}: {found.output} at {found.worst}"
                    )
                for worst, ratio in (
                    (tally.worst, found.max_error_over_bound),
                    (tally.worst_probable, found.max_error_over_probable_bound),
                ):
                    worst[runtime] = max(worst.get(runtime, 0.0), ratio)
    tally.rows -= tally.out_of_range
    return tally


def network(draw: Draw, most_rows: int) -> tuple[dict[str, Floats], Float32Array]:
    """Draw the tensors and the rows, whose own sizes spread over decades: (rows, in_features)."""
    shape, unit = draw.shape, 10.0**draw.exponent
    d = shape.in_features
    rng = np.random.default_rng(
        [draw.seed, draw.exponent + 100, REGIMES.index(draw.regime), d, shape.hidden_features]
    )
    spread = unit * rng.uniform(0.5, 2, d)
    mean = {"matched": spread, "raw": 0 * spread, "offset": 1e6 * spread}[draw.regime] * rng.normal(
        size=d
    )
    count = max(16, min(most_rows, MOST_PRODUCTS // (d * shape.hidden_features)))
    sizes = 10.0 ** rng.normal(scale=0 if draw.regime == "matched" else 2.5, size=(count, 1))
    with np.errstate(over="ignore"):
        rows = (mean + spread * sizes * rng.normal(size=(count, d))).astype(np.float32)
    shift, scale = (0 * mean, mean * 0 + 1) if draw.regime == "raw" else (mean, 1 / spread)
    return random_weights(shape, rng, shift, scale, unit=1 if draw.regime == "raw" else unit), rows


def onnx_of(weights: Weights) -> bytes:
    """Return the model.onnx of a network without torch's exporter, which takes seconds; the proof says if it is one."""
    task = task_of(weights)
    width, out = len(weights["shift"]), len(weights["net.linear2.bias"])
    types: dict[str, tuple[int, list[str | int]]] = {
        "float32": (TensorProto.FLOAT, ["batch", out]),
        "int64": (TensorProto.INT64, ["batch"]),
    }
    nodes = []
    for op, inputs, outputs, attributes in expected_wiring(task):
        nodes.append(node := helper.make_node(op, inputs, outputs))
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    graph = helper.make_graph(
        nodes,
        "",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", width])],
        [
            helper.make_tensor_value_info(name, *types[dtype])
            for name, dtype in OUTPUTS[task].items()
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return serialized(canonical(helper.make_model(graph)))
