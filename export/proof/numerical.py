"""The numerical proof: every runtime's answers to the hard inputs, held to the bound of export.bounds.

Each answer is compared with the float64 reference, element by element; B decides, and the probable bound, units in
the last place, labels and what a row's batch does to it are measured and recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import ProofError
from export.proof.bound import Float32Array, FloatArray, Reference, probable_gamma, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.runtimes import Outputs, Runtime


@dataclass(frozen=True)
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
    max_error_over_probable_bound: float
    """Above 1, the errors of the roundings do not look independent: a warning."""
    max_ulps: float
    """Largest error in units in the last place of the reference; large where terms cancel. 0 for labels."""
    label_disagreements: int
    """Labels that are not the reference's, though rounding explains them; 0 for other outputs."""
    largest_margin: float
    """Of those: by how much the reference's logit was above the chosen one's, at most."""
    worst: tuple[int, ...] | None
    """Where the error is largest against its bound."""
    passed: bool


def sweep(
    cases: Sequence[Case], asked: Mapping[str, Runtime], weights: Weights
) -> Iterator[Comparison]:
    """Ask every runtime for every case; each reference is evaluated once."""
    for case in cases:
        expected = reference(weights, case.rows)
        probable = reference(weights, case.rows, probable_gamma).bounds
        for name, runtime in asked.items():
            yield from compare_outputs(case, name, runtime(case.rows), expected, probable)


def compare(case: Case, name: str, runtime: Runtime, weights: Weights) -> list[Comparison]:
    """Hold one runtime's answers to one case to the reference."""
    return list(sweep([case], {name: runtime}, weights))


def compare_outputs(
    case: Case, name: str, answers: Outputs, expected: Reference, probable: Mapping[str, FloatArray]
) -> Iterator[Comparison]:
    """Compare answers with the reference; a row out of range proves nothing and is only counted.

    Raises:
        ProofError: an answer is not of the reference's shape.
    """
    keep = expected.in_range
    for output, values in expected.values.items():
        answer = answers[output]
        _require_shape(case, name, output, values.shape, answer)
        error = np.abs(answer[keep].astype(np.float64) - values[keep])
        bound = expected.bounds[output][keep]
        ratio, probably = _ratio(error, bound), _ratio(error, probable[output][keep])
        ulps = error / np.spacing(np.abs(values[keep]).astype(np.float32)).astype(np.float64)
        yield Comparison(
            case=case.name,
            runtime=name,
            output=output,
            rows=len(keep),
            rows_out_of_range=int((~keep).sum()),
            max_error=float(error.max(initial=0)),
            max_error_over_bound=float(ratio.max(initial=0)),
            max_error_over_probable_bound=float(probably.max(initial=0)),
            max_ulps=float(ulps.max(initial=0)),
            label_disagreements=0,
            largest_margin=0.0,
            worst=_worst_place(ratio, keep),
            passed=bool((error <= bound).all()),  # NaN is not <= anything
        )
    if expected.accepted is not None:
        yield _compare_labels(
            case, name, answers["label"], expected.values["logits"], expected.accepted, keep
        )


def check_nonfinite_rows(
    name: str, runtime: Runtime, rows: Float32Array, nan_decides: bool = True
) -> list[str]:
    """Put NaN and the infinities into one place: no other row changes, and every score of NaN's row is NaN.

    Args:
        name: of the runtime.
        runtime: answers rows.
        rows: real rows, at least one.
        nan_decides: False where a NaN that is swallowed, as OpenVINO's ReLU does, is no fault of the file; the
            service lets no NaN in.

    Returns:
        what is worth a warning.

    Raises:
        ProofError: it is not so.
    """
    clean = np.resize(rows, (3, rows.shape[1]))
    before = next(iter(runtime(clean).items()))
    warnings = []
    for value in (np.nan, np.inf, -np.inf):
        spoiled = clean.copy()
        spoiled[1, -1] = value
        after = runtime(spoiled)[before[0]]
        if np.isnan(value) and not np.isnan(after[1]).all():
            warnings.append(
                f"{name}: NaN in a row: expected every {before[0]} of it NaN, found {after[1].tolist()}"
            )
            if nan_decides:
                raise ProofError(warnings[-1])
        if not np.array_equal(before[1][[0, 2]], after[[0, 2]]):
            raise ProofError(
                f"{name}: {value} in a row: expected the other rows unchanged, found {after[[0, 2]]}"
            )
    return warnings


def rows_changed_by_batch(runtime: Runtime, rows: Float32Array) -> int:
    """Count the rows whose answer alone is not, bit for bit, their answer in a batch: measured, not promised."""
    together = runtime(rows)
    alone = [runtime(rows[i : i + 1]) for i in range(len(rows))]
    return sum(
        any(
            values[i : i + 1].tobytes() != answer[name].tobytes()
            for name, values in together.items()
        )
        for i, answer in enumerate(alone)
    )


def describe_failure(failed: Comparison) -> str:
    """Say in one line how a comparison failed."""
    return (
        f"{failed.runtime}, {failed.case}: {failed.output} at {list(failed.worst or ())}: error {failed.max_error:.3g} "
        f"is {failed.max_error_over_bound:.3g} times the bound: this is not the trained network"
    )


def _compare_labels(
    case: Case,
    name: str,
    label: NDArray[np.int64],
    logits: FloatArray,
    accepted: NDArray[np.bool_],
    keep: NDArray[np.bool_],
) -> Comparison:
    """Hold labels to those that rounding explains, and count those that are not the reference's."""
    _require_shape(case, name, "label", (len(keep),), label)
    known = (label >= 0) & (label < accepted.shape[1])
    wrong = ~known
    wrong[known] = ~accepted[np.flatnonzero(known), label[known]]
    error = wrong[keep].astype(np.float64)
    sound = np.flatnonzero(keep & ~wrong)
    margins = logits[sound].max(axis=1, initial=-np.inf) - logits[sound, label[sound]]
    return Comparison(
        case=case.name,
        runtime=name,
        output="label",
        rows=len(keep),
        rows_out_of_range=int((~keep).sum()),
        max_error=float(error.sum()),
        max_error_over_bound=float(error.max(initial=0)),
        max_error_over_probable_bound=0.0,
        max_ulps=0.0,
        label_disagreements=int((logits[sound].argmax(axis=1) != label[sound]).sum()),
        largest_margin=float(margins.max(initial=0)),
        worst=_worst_place(error, keep),
        passed=not error.any(),
    )


def _ratio(error: FloatArray, bound: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = error / bound
    ratio[error == 0] = 0  # also where the bound is 0
    return ratio


def _worst_place(ratio: FloatArray, keep: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the row, among all of the case, and the column of the largest ratio."""
    if not ratio.size:
        return None
    row, *rest = np.unravel_index(
        int(np.argmax(ratio)), ratio.shape
    )  # argmax stops at the first NaN
    return int(np.flatnonzero(keep)[row]), *(int(i) for i in rest)


def _require_shape(
    case: Case, name: str, output: str, expected: tuple[int, ...], answer: NDArray[Any]
) -> None:
    if answer.shape != expected:
        raise ProofError(
            f"{name}, {case.name}: {output}: expected shape {expected}, found {answer.shape}"
        )
