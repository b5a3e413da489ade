"""The report of a proof: text and a table for the terminal, and a plot for the model card."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from export.proof.bound import Float32Array, FloatArray, probable_gamma, reference
from export.proof.expected import Weights
from export.proof.hard_inputs import Case
from export.proof.prove import Proof, RuntimeFigures
from export.proof.runtimes import SERVING_RUNTIME, Outputs, Runtime

HEADINGS = (
    "max error\n/ bound",
    "max error /\nprobable bound",
    "max\nULPs",
    "labels that\ndiffer from\nfloat64",
    "rows changed\nby batching",
)
"""Headings of the numeric columns of the table."""
MIN_PLOTTED_RATIO = 1e-5
"""Smallest plotted error / bound; smaller ones are raised to it, as a log axis has no 0."""


def print_proof(proof: Proof) -> None:
    """Print the summary, the table of runtimes, and the warnings."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    for item in (proof_summary(proof), proof_table(proof), *proof_remarks(proof)):
        console.print(item)


def proof_summary(proof: Proof) -> str:
    """Return three lines: the results for the files and the outputs, and the rows skipped."""
    share = proof.rows_out_of_range / (proof.rows + proof.rows_out_of_range)
    return (
        f"structure: {proof.structure}\n"
        f"outputs:   all within the rounding bound of the network in float64, "
        f"on {proof.rows} hard rows\n"
        f"skipped:   {proof.rows_out_of_range} of the hard rows ({share:.2%}), "
        "which may overflow float32"
    )


def proof_table(proof: Proof) -> Table:
    """Return a table of the largest errors; runtimes with equal figures share a row."""
    runtimes: dict[tuple[str, ...], list[str]] = {}
    for name, figures in proof.runtimes.items():
        runtimes.setdefault(_cells(figures), []).append(name)
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("runtime", min_width=22)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for cells, (first, *others) in runtimes.items():
        short = (name.removeprefix(f"{SERVING_RUNTIME} ") for name in others)
        table.add_row(", ".join((first, *short)), *cells)
    return table


def proof_remarks(proof: Proof) -> Iterator[str]:
    """Yield a line for each execution provider that was not evaluated, and for each warning."""
    yield from (f"not evaluated: {name}: {reason}" for name, reason in proof.left_out.items())
    yield from (f"warning: {warning}" for warning in proof.warnings)


def plot_errors(cases: Sequence[Case], runtime: Runtime, weights: Weights, title: str) -> bytes:
    """Return a PNG with one plot per output: the largest error of each row against its bounds."""
    from matplotlib.figure import Figure

    results = [(case.rows, runtime(case.rows)) for case in cases if not case.repeated]
    outputs = reference(weights, cases[0].rows).values
    figure = Figure(figsize=(4 + 3 * len(outputs), 4), layout="constrained")
    plots = figure.subplots(1, len(outputs), squeeze=False)[0]
    for output, axes in zip(outputs, plots, strict=True):
        points = np.concatenate([_points(weights, *result, output) for result in results])
        bound, probable, error = points[points[:, 0] > 0].T
        error = np.maximum(error, MIN_PLOTTED_RATIO * bound)
        axes.scatter(
            probable, error, s=6, label="error against the probable bound", color="tab:orange"
        )
        axes.scatter(bound, error, s=6, label="error against the bound", color="tab:blue")
        ends = [error.min(initial=1), bound.max(initial=1)]
        axes.plot(ends, ends, color="grey", linewidth=1, label="error = bound")
        axes.set(xscale="log", yscale="log", xlabel="bound", ylabel="error")
        axes.set_title(f"{title}, {output}")
        axes.legend(loc="upper left", fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    return png.getvalue()


def _cells(figures: RuntimeFigures) -> tuple[str, ...]:
    return (
        f"{figures.max_error_over_bound:.2g}",
        f"{figures.max_error_over_probable_bound:.2g}",
        f"{figures.max_ulps:.2g}" if figures.max_ulps < 10 else f"{figures.max_ulps:.0f}",
        str(figures.label_disagreements),
        f"{figures.batch_rows_changed} of {figures.batch_rows}",
    )


def _points(weights: Weights, rows: Float32Array, values: Outputs, output: str) -> FloatArray:
    """Return bound, probable bound and error of each row's worst element, (rows in range, 3)."""
    expected = reference(weights, rows)
    in_range = expected.in_range
    bound = expected.bounds[output][in_range]
    probable = reference(weights, rows, probable_gamma).bounds[output][in_range]
    error = np.abs(values[output][in_range].astype(np.float64) - expected.values[output][in_range])
    worst = (error / np.maximum(bound, np.finfo(float).tiny)).argmax(axis=1)[:, None]
    columns = [np.take_along_axis(column, worst, 1) for column in (bound, probable, error)]
    return np.concatenate(columns, axis=1)
