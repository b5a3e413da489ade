"""The numerical proof: the answers of each runtime to the hard inputs against the derived bound.

Each answer is compared with the float64 reference, element by element. The bound decides; the
probable bound, ULPs, labels and the effect of batching are measured and recorded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.errors import ProofError
from export.proof.bound import Float32Array, FloatArray, Reference, probable_gamma, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.runtimes import Outputs, Runtime


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output of one runtime over one case; the figures are over the rows in range."""

    case: str
    runtime: str
    output: str
    rows: int
    rows_out_of_range: int
    max_error: float
    """Largest |answer - reference|; for labels, the number that rounding does not explain."""
    max_error_over_bound: float
    max_error_over_probable_bound: float = 0.0
    """Above 1, rounding errors do not look independent: a warning."""
    max_ulps: float = 0.0
    """Largest error in ULPs of the reference, which is large where terms cancel; 0 for labels."""
    label_disagreements: int = 0
    """Labels that differ from the reference's, though rounding explains them."""
    largest_margin: float = 0.0
    """Largest difference between the two logits of such labels."""
    worst: tuple[int, ...] | None
    """Index of the largest error relative to its bound."""
    passed: bool


def sweep(
    cases: Sequence[Case], runtimes: Mapping[str, Runtime], weights: Weights
) -> Iterator[Comparison]:
    """Compare every runtime on every case; each reference is evaluated once."""
    for case in cases:
        expected = reference(weights, case.rows)
        probable = reference(weights, case.rows, probable_gamma).bounds
        for name, runtime in runtimes.items():
            yield from compare_outputs(case, name, runtime(case.rows), expected, probable)


def compare_outputs(
    case: Case, name: str, answers: Outputs, expected: Reference, probable: Mapping[str, FloatArray]
) -> Iterator[Comparison]:
    """Compare a runtime's answers on the rows in range; raise ProofError for another shape."""
    keep = expected.in_range
    shapes: dict[str, tuple[int, ...]] = {key: a.shape for key, a in expected.values.items()}
    if expected.accepted is not None:
        shapes["label"] = keep.shape
    for output, shape in shapes.items():
        actual = answers[output].shape
        if actual != shape:
            place = f"{name}, {case.name}: {output}"
            raise ProofError(f"{place}: expected shape {shape}, found {actual}")
    comparison = partial(
        Comparison,
        case=case.name,
        runtime=name,
        rows=len(keep),
        rows_out_of_range=int((~keep).sum()),
    )
    for output, values in expected.values.items():
        error = np.abs(answers[output][keep].astype(np.float64) - values[keep])
        bound = expected.bounds[output][keep]
        ratio, probable_ratio = _ratio(error, bound), _ratio(error, probable[output][keep])
        ulps = error / np.spacing(np.abs(values[keep]).astype(np.float32)).astype(np.float64)
        yield comparison(
            output=output,
            max_error=float(error.max(initial=0)),
            max_error_over_bound=float(ratio.max(initial=0)),
            max_error_over_probable_bound=float(probable_ratio.max(initial=0)),
            max_ulps=float(ulps.max(initial=0)),
            worst=_worst_index(ratio, keep),
            passed=bool((error <= bound).all()),  # a NaN fails here
        )
    if expected.accepted is not None:
        yield _compare_labels(comparison, answers["label"], expected, expected.accepted)


def check_nonfinite_rows(
    name: str, runtime: Runtime, rows: Float32Array, nan_decides: bool = True
) -> list[str]:
    """Put NaN and the infinities into one of three rows, and return warnings.

    Raises:
        ProofError: another row changed, or NaN was swallowed. Without nan_decides, a swallowed NaN
            is a warning: OpenVINO's ReLU swallows it, and the service accepts no NaN.
    """
    clean = np.resize(rows, (3, rows.shape[1]))
    output, before = next(iter(runtime(clean).items()))
    warnings = []
    for value in (np.nan, np.inf, -np.inf):
        spoiled = clean.copy()
        spoiled[1, -1] = value
        after = runtime(spoiled)[output]
        if np.isnan(value) and not np.isnan(after[1]).all():
            warnings.append(
                f"{name}: NaN in a row: expected only NaN in its {output}, "
                f"found {after[1].tolist()}"
            )
            if nan_decides:
                raise ProofError(warnings[-1])
        others = after[[0, 2]]
        if not np.array_equal(before[[0, 2]], others):
            problem = f"expected the other rows unchanged, found {others}"
            raise ProofError(f"{name}: {value} in a row: {problem}")
    return warnings


def rows_changed_by_batch(runtime: Runtime, rows: Float32Array) -> int:
    """Count the rows with other answers alone than in a batch, compared bit for bit."""
    together, changed = runtime(rows), 0
    for i in range(len(rows)):
        alone = runtime(rows[i : i + 1])
        changed += any(together[key][i : i + 1].tobytes() != alone[key].tobytes() for key in alone)
    return changed


def describe_failure(failed: Comparison) -> str:
    """Return one line on a comparison that failed."""
    return (
        f"{failed.runtime}, {failed.case}: {failed.output} at {list(failed.worst or ())}: "
        f"error {failed.max_error:.3g} is {failed.max_error_over_bound:.3g} times the bound: "
        "this is not the trained network"
    )


def _compare_labels(
    comparison: Callable[..., Comparison],
    label: NDArray[np.int64],
    expected: Reference,
    accepted: NDArray[np.bool_],
) -> Comparison:
    """Compare labels with those that rounding explains, and count those that differ."""
    logits, keep = expected.values["logits"], expected.in_range
    known = (label >= 0) & (label < accepted.shape[1])
    wrong = ~known
    wrong[known] = ~accepted[np.flatnonzero(known), label[known]]
    error = wrong[keep].astype(np.float64)
    sound = np.flatnonzero(keep & ~wrong)
    margins = logits[sound].max(axis=1, initial=-np.inf) - logits[sound, label[sound]]
    return comparison(
        output="label",
        max_error=float(error.sum()),
        max_error_over_bound=float(error.max(initial=0)),
        label_disagreements=int((logits[sound].argmax(axis=1) != label[sound]).sum()),
        largest_margin=float(margins.max(initial=0)),
        worst=_worst_index(error, keep),
        passed=not error.any(),
    )


def _ratio(error: FloatArray, bound: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = error / bound
    ratio[error == 0] = 0  # also where the bound is 0
    return ratio


def _worst_index(ratio: FloatArray, keep: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the index of the largest ratio, its row counted among all rows of the case."""
    if not ratio.size:
        return None
    # argmax returns the first NaN, if there is one.
    row, *rest = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return int(np.flatnonzero(keep)[row]), *(int(i) for i in rest)
