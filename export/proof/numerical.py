"""The numerical proof: compare the outputs of every runtime with the float64 reference.

An error above the bound of an element fails the proof. The probable bound, errors in ULPs, labels
and the effect of batching are measured and recorded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.errors import ProofError
from export.proof.bound import Float32Array, FloatArray, Reference, probable_gamma, reference
from export.proof.expected import Weights, require_equal
from export.proof.hard_inputs import Case
from export.proof.runtimes import Outputs, Runtime, is_execution_provider


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Errors of one output of one runtime over the rows of a case that are in range."""

    case: str
    runtime: str
    output: str
    rows: int
    """Number of rows of the case, in range or not."""
    rows_out_of_range: int
    max_error: float
    """Largest |output - reference|; for labels, the number that rounding cannot explain."""
    max_error_over_bound: float
    max_error_over_probable_bound: float = 0.0
    """Largest error / probable bound; above 1, the rounding errors do not look independent."""
    max_ulps: float = 0.0
    """Largest error in ULPs of the reference, which is large where terms cancel; 0 for labels."""
    label_disagreements: int = 0
    """Number of labels that differ from the reference's by no more than rounding can explain."""
    largest_margin: float = 0.0
    """Largest difference between the logits of the two labels of a disagreement."""
    worst: tuple[int, ...] | None
    """Index of the element with the largest error relative to its bound."""
    passed: bool


def sweep(
    cases: Sequence[Case], runtimes: Mapping[str, Runtime], weights: Weights
) -> Iterator[Comparison]:
    """Yield the comparisons of every runtime on every case."""
    for case in cases:
        expected = reference(weights, case.rows)
        probable = reference(weights, case.rows, probable_gamma).bounds
        for name, runtime in runtimes.items():
            yield from compare_outputs(case, name, runtime(case.rows), expected, probable)


def compare_outputs(
    case: Case, name: str, outputs: Outputs, expected: Reference, probable: Mapping[str, FloatArray]
) -> Iterator[Comparison]:
    """Compare a runtime's outputs with the reference; raise ProofError if a shape differs."""
    in_range = expected.in_range
    shapes: dict[str, tuple[int, ...]] = {key: v.shape for key, v in expected.values.items()}
    if expected.accepted is not None:
        shapes["label"] = in_range.shape
    for output, shape in shapes.items():
        require_equal(f"{name}, {case.name}: shape of {output}", shape, outputs[output].shape)
    rows, out_of_range = len(in_range), int((~in_range).sum())
    comparison = partial(
        Comparison, case=case.name, runtime=name, rows=rows, rows_out_of_range=out_of_range
    )
    for output, values in expected.values.items():
        error = np.abs(outputs[output][in_range].astype(np.float64) - values[in_range])
        bound = expected.bounds[output][in_range]
        ratio, probable_ratio = _ratio(error, bound), _ratio(error, probable[output][in_range])
        ulps = error / np.spacing(np.abs(values[in_range]).astype(np.float32)).astype(np.float64)
        yield comparison(
            output=output,
            max_error=float(error.max(initial=0)),
            max_error_over_bound=float(ratio.max(initial=0)),
            max_error_over_probable_bound=float(probable_ratio.max(initial=0)),
            max_ulps=float(ulps.max(initial=0)),
            worst=_worst_index(ratio, in_range),
            passed=bool((error <= bound).all()),  # The comparison is false for NaN.
        )
    if expected.accepted is not None:
        yield _compare_labels(comparison, outputs["label"], expected, expected.accepted)


def check_nonfinite_rows(name: str, runtime: Runtime, rows: Float32Array) -> list[str]:
    """Evaluate three rows, one of which holds NaN or an infinity, and return warnings.

    Raises:
        ProofError: the outputs of the other rows changed, or those of the row with NaN are not NaN.
            For an execution provider the latter is a warning: OpenVINO's ReLU turns NaN into 0.
    """
    finite = np.resize(rows, (3, rows.shape[1]))
    output, before = next(iter(runtime(finite).items()))
    warnings = []
    for value in (np.nan, np.inf, -np.inf):
        nonfinite = finite.copy()
        nonfinite[1, -1] = value
        after = runtime(nonfinite)[output]
        if np.isnan(value) and not np.isnan(after[1]).all():
            problem = f"expected only NaN in its {output}, found {after[1].tolist()}"
            warnings.append(f"{name}: NaN in a row: {problem}")
            if not is_execution_provider(name):
                raise ProofError(warnings[-1])
        others = after[[0, 2]]
        if not np.array_equal(before[[0, 2]], others):
            problem = f"expected the other rows unchanged, found {others.tolist()}"
            raise ProofError(f"{name}: {value} in a row: {problem}")
    return warnings


def rows_changed_by_batch(runtime: Runtime, rows: Float32Array) -> int:
    """Count the rows whose output bits differ between a batch of all rows and a batch of one."""
    batch, count = runtime(rows), 0
    for i in range(len(rows)):
        single = runtime(rows[i : i + 1])
        count += any(batch[key][i : i + 1].tobytes() != single[key].tobytes() for key in single)
    return count


def describe_failure(failure: Comparison) -> str:
    """Return the error message for a failed comparison."""
    return (
        f"{failure.runtime}, {failure.case}: {failure.output} at {list(failure.worst or ())}: "
        f"error {failure.max_error:.3g} is {failure.max_error_over_bound:.3g} times the bound: "
        "this is not the trained network"
    )


def _compare_labels(
    comparison: Callable[..., Comparison],
    label: NDArray[np.int64],
    expected: Reference,
    accepted: NDArray[np.bool_],
) -> Comparison:
    """Compare labels with those that are correct within rounding."""
    logits, in_range = expected.values["logits"], expected.in_range
    is_class = (label >= 0) & (label < accepted.shape[1])
    wrong = ~is_class
    wrong[is_class] = ~accepted[np.flatnonzero(is_class), label[is_class]]
    error = wrong[in_range].astype(np.float64)
    correct = np.flatnonzero(in_range & ~wrong)
    margins = logits[correct].max(axis=1, initial=-np.inf) - logits[correct, label[correct]]
    return comparison(
        output="label",
        max_error=float(error.sum()),
        max_error_over_bound=float(error.max(initial=0)),
        label_disagreements=int((logits[correct].argmax(axis=1) != label[correct]).sum()),
        largest_margin=float(margins.max(initial=0)),
        worst=_worst_index(error, in_range),
        passed=not error.any(),
    )


def _ratio(error: FloatArray, bound: FloatArray) -> FloatArray:
    """Return error / bound, and 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, error / bound)


def _worst_index(ratio: FloatArray, in_range: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the index of the largest ratio; its row number counts all rows of the case."""
    if not ratio.size:
        return None
    # argmax returns the index of the first NaN, if there is one.
    row, *rest = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return int(np.flatnonzero(in_range)[row]), *(int(i) for i in rest)
