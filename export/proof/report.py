"""What a person reads of a proof: the table of a terminal, and the plot of the model card."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from export.proof.bound import FloatArray, probable_gamma, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.runtimes import Runtime

COLUMNS = {
    "error/bound": "max_error_over_bound",
    "/probable": "max_error_over_probable_bound",
    "ULPs": "max_ulps",
    "labels": "label_disagreements",
    "batch": "batch_rows_changed",
}
"""By column of the table: the figure of a runtime, the worst over all cases."""
MIN_PLOTTED_RATIO = 1e-5
"""A smaller share of its bound is drawn as this: an error may be 0, and a probability 1e-300."""


def proof_summary(proof: Mapping[str, Any]) -> str:
    """Say in one line which rows a proof is about, and how many of them it says nothing of."""
    total = proof["rows"] + proof["rows_out_of_range"]
    return (
        f"{total} hard rows, {proof['rows_out_of_range']} ({proof['rows_out_of_range'] / total:.2%}) beyond float32's "
        "range; 'labels' are not float64's, 'batch' counts rows that it changes"
    )


def proof_table(proof: Mapping[str, Any]) -> Table:
    """Lay out the worst figures of every runtime."""
    laid_out = Table(box=None, pad_edge=False)
    laid_out.add_column("", no_wrap=True)
    for column in COLUMNS:
        laid_out.add_column(column, justify="right")
    for name, worst in proof["runtimes"].items():
        laid_out.add_row(name, *(_short(worst[figure]) for figure in COLUMNS.values()))
    return laid_out


def plot_errors(cases: Sequence[Case], runtime: Runtime, weights: Weights, title: str) -> bytes:
    """Draw the worst error of every row and output against its bound, and its probable bound; return a PNG."""
    from matplotlib.figure import Figure

    answers = [(case, runtime(case.rows)) for case in cases if not case.repeated]
    outputs = reference(weights, cases[0].rows).values
    figure = Figure(figsize=(4 + 3 * len(outputs), 4), layout="constrained")
    for output, axes in zip(
        outputs, figure.subplots(1, len(outputs), squeeze=False)[0], strict=True
    ):
        points = np.concatenate(
            [_points(weights, case, output, answer[output]) for case, answer in answers]
        )
        bound, probable, error = points[points[:, 0] > 0].T
        error = np.maximum(error, MIN_PLOTTED_RATIO * bound)
        axes.scatter(
            probable, error, s=6, label="error against the probable bound", color="tab:orange"
        )
        axes.scatter(bound, error, s=6, label="error against the bound", color="tab:blue")
        ends = [error.min(initial=1), bound.max(initial=1)]
        axes.plot(ends, ends, color="grey", linewidth=1, label="error = bound")
        axes.set(
            xscale="log", yscale="log", xlabel="bound", ylabel="error", title=f"{title}, {output}"
        )
        axes.legend(loc="upper left", fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    return png.getvalue()


def proof_remarks(proof: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not in order without being an error."""
    yield from (f"not asked: {name}: {reason}" for name, reason in proof["left_out"].items())
    yield from (f"warning: {warning}" for warning in proof["warnings"])


def _short(figure: float) -> str:
    return f"{figure:.2g}" if figure < 10 else f"{figure:.0f}"


def _points(weights: Weights, case: Case, output: str, answer: FloatArray) -> FloatArray:
    """Return (rows in range, 3): bound, probable bound and error of the element that is worst against its bound."""
    expected = reference(weights, case.rows)
    keep = expected.in_range
    bound = expected.bounds[output][keep]
    probable = reference(weights, case.rows, probable_gamma).bounds[output][keep]
    error = np.abs(answer[keep].astype(np.float64) - expected.values[output][keep])
    worst = (error / np.maximum(bound, np.finfo(float).tiny)).argmax(axis=1)[:, None]
    return np.concatenate(
        [np.take_along_axis(values, worst, 1) for values in (bound, probable, error)], axis=1
    )
