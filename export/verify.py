"""The numerical proof: every runtime's answers to the hard inputs, held to the bound of export.bounds.

The ONNX file runs through the session that serves, TorchScript through torch.jit.load, and both beside
the eager network; each is compared with the float64 reference, element by element.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export import ProofError
from export.bounds import LARGEST, Float32Array, FloatArray, reference
from export.structure import Weights, prove_onnx, prove_torchscript, task_of
from export.to_torchscript import load_torchscript
from model.checkpoint import net_of
from service.manifest import OUTPUTS, Feature
from service.predictor import Session

Outputs = Mapping[str, NDArray[Any]]
Runtime = Callable[[Float32Array], Outputs]

MOST_OUT_OF_RANGE = 0.05
"""A sweep with a larger share of rows that may overflow proves too little, and fails."""
ONE_HOT_FEATURES = 256
BATCHES = (0, 1, 2, 3, 7, 33, 1024)


@dataclass(frozen=True)
class Case:
    """Rows that are hard in some way."""

    name: str
    rows: Float32Array
    """(rows, in_features)."""
    repeated: bool = False
    """Rows that another case holds too, in another number."""


@dataclass(frozen=True)
class Comparison:
    """One output of one runtime over one case; the figures are over the rows in range."""

    case: str
    runtime: str
    output: str
    rows: int
    in_range: int
    max_error: float
    """Largest |answer - reference|; for labels, the number that rounding does not explain."""
    max_error_over_bound: float
    worst: tuple[int, ...] | None
    """Where the error is largest against its bound."""
    passed: bool


def prove(
    files: tuple[bytes, bytes], weights: Weights, features: Sequence[Feature], rows: Float32Array
) -> dict[str, Any]:
    """Prove that model.onnx and model.torchscript.pt compute the trained network; return the evidence.

    Args:
        files: the bytes of model.onnx and of model.torchscript.pt.
        weights: the tensors of the run.
        features: give the training minimum, median and maximum of every column.
        rows: real rows, (rows, in_features) float32, at least one.

    Raises:
        ProofError: a check failed; the message says which, where, expected and found.
    """
    model, script = files
    prove_onnx(model, weights)
    module = load_torchscript(script)
    prove_torchscript(module, weights)
    session = Session(model)
    names = list(OUTPUTS[task_of(weights)])
    runtimes: dict[str, Runtime] = {
        "onnxruntime": session.run,
        "torchscript": lambda x: _torch_outputs(module, names, x),
        "eager": lambda x: _torch_outputs(net_of(weights), names, x),
    }
    cases = hard_inputs(features, rows)
    comparisons = [
        comparison
        for case in cases
        for name, runtime in runtimes.items()
        for comparison in compare(case, name, runtime, weights)
    ]
    if failed := [comparison for comparison in comparisons if not comparison.passed]:
        raise ProofError(describe(failed[0]))
    # The batches repeat the real rows, which are counted once.
    total = sum(len(case.rows) for case in cases if not case.repeated)
    in_range = sum(reference(weights, case.rows).in_range.sum() for case in cases if not case.repeated)
    if total - in_range > MOST_OUT_OF_RANGE * total:
        raise ProofError(
            f"hard inputs: expected at most {MOST_OUT_OF_RANGE:.0%} of rows out of float32's range, "
            f"found {1 - in_range / total:.1%}: scale the columns of the data"
        )
    for name, runtime in runtimes.items():
        check_contagion(name, runtime, rows)
    return {
        "structure": "every tensor bit-identical, every operator and wire as expected",
        "rows": int(in_range),
        "rows_out_of_range": int(total - in_range),
        "max_error_over_bound": {
            name: max(c.max_error_over_bound for c in comparisons if c.runtime == name) for name in runtimes
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "host": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def hard_inputs(features: Sequence[Feature], rows: Float32Array) -> list[Case]:
    """Return the inputs of every sweep: real rows, extremes, scales and batch sizes."""
    n = len(features)
    low = np.array([feature.min for feature in features], np.float32)
    high = np.array([feature.max for feature in features], np.float32)
    chosen = np.unique(np.linspace(0, n - 1, min(n, ONE_HOT_FEATURES)).astype(int))
    one_hot = np.zeros((len(chosen), n), np.float32)
    one_hot[np.arange(len(chosen)), chosen] = 1
    many = np.resize(rows, (max(BATCHES), n))
    with np.errstate(over="ignore"):
        scaled = [Case(f"rows x {factor:g}", rows * np.float32(factor)) for factor in (1e-6, 1e3, 1e6)]
    return [
        Case("real rows", rows),
        Case("zeros", np.zeros((1, n), np.float32)),
        Case("one-hot", np.concatenate([one_hot, -one_hot])),
        Case("training minimum and maximum", np.stack([low, high])),
        *scaled,
        Case("subnormals", np.stack([np.full(n, 1e-40, np.float32), np.full(n, -1e-45, np.float32)])),
        Case("largest finite", np.full((1, n), LARGEST, np.float32)),
        *(Case(f"batch of {size}", many[:size], repeated=True) for size in BATCHES),
    ]


def compare(case: Case, name: str, runtime: Runtime, weights: Weights) -> list[Comparison]:
    """Hold a runtime's answers to the reference; a row out of range proves nothing and is only counted."""
    expected = reference(weights, case.rows)
    keep = expected.in_range
    answers = runtime(case.rows)
    found = []
    for output, values in expected.values.items():
        answer = answers[output]
        if answer.shape != values.shape:
            raise ProofError(f"{name}, {case.name}: {output}: expected shape {values.shape}, found {answer.shape}")
        error = np.abs(answer[keep].astype(np.float64) - values[keep])
        ratio = error / expected.bounds[output][keep]
        ratio[error == 0] = 0  # also where the bound is 0
        passed = bool((error <= expected.bounds[output][keep]).all())  # NaN is not <= anything
        found.append(_summary(case, name, output, keep, error, ratio, passed))
    if expected.accepted is not None:
        label = answers["label"]
        if label.shape != (len(case.rows),):
            raise ProofError(f"{name}, {case.name}: label: expected shape ({len(case.rows)},), found {label.shape}")
        known = (label >= 0) & (label < expected.accepted.shape[1])
        wrong = ~known
        wrong[known] = ~expected.accepted[np.flatnonzero(known), label[known]]
        error = wrong[keep].astype(np.float64)
        found.append(_summary(case, name, "label", keep, error, error, not error.any()))
    return found


def check_contagion(name: str, runtime: Runtime, rows: Float32Array) -> None:
    """Put NaN and the infinities into one place: no other row changes, and every score of NaN's row is NaN.

    Raises:
        ProofError: it is not so.
    """
    clean = np.resize(rows, (3, rows.shape[1]))
    before = next(iter(runtime(clean).items()))
    for value in (np.nan, np.inf, -np.inf):
        spoiled = clean.copy()
        spoiled[1, -1] = value
        after = runtime(spoiled)[before[0]]
        if np.isnan(value) and not np.isnan(after[1]).all():
            raise ProofError(f"{name}: NaN in a row: expected every {before[0]} of it NaN, found {after[1]}")
        if not np.array_equal(before[1][[0, 2]], after[[0, 2]]):
            raise ProofError(f"{name}: {value} in a row: expected the other rows unchanged, found {after[[0, 2]]}")


def describe(failed: Comparison) -> str:
    """Say in one line how a comparison failed."""
    return (
        f"{failed.runtime}, {failed.case}: {failed.output} at {list(failed.worst or ())}: error {failed.max_error:.3g} "
        f"is {failed.max_error_over_bound:.3g} times the bound: this is not the trained network"
    )


def _summary(
    case: Case,
    runtime: str,
    output: str,
    keep: NDArray[np.bool_],
    error: FloatArray,
    ratio: FloatArray,
    passed: bool,
) -> Comparison:
    worst = None
    if ratio.size:
        row, *rest = np.unravel_index(int(np.argmax(ratio)), ratio.shape)  # argmax stops at the first NaN
        worst = (int(np.flatnonzero(keep)[row]), *(int(i) for i in rest))
    return Comparison(
        case=case.name,
        runtime=runtime,
        output=output,
        rows=len(case.rows),
        in_range=int(keep.sum()),
        max_error=float(error.max(initial=0)),
        max_error_over_bound=float(ratio.max(initial=0)),
        worst=worst,
        passed=passed,
    )


def _torch_outputs(module: torch.nn.Module, names: Sequence[str], x: Float32Array) -> Outputs:
    with torch.no_grad():
        out = module(torch.from_numpy(x))
    values = out if isinstance(out, tuple) else (out,)
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}
