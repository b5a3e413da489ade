"""Tests of export.proof.report: the plot, table, summary and warnings of a proof."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from export.proof import report
from export.proof.hard_inputs import hard_inputs
from export.proof.prove import Proof, RuntimeFigures
from export.verification import check_picture
from service.artifact import manifest
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.trained import Trained

FIGURES = RuntimeFigures(0.0123, 0.025, 11050.3, 0.0, 0, 256, 0, None)
PROOF = Proof(
    structure="every tensor",
    rows=1157,
    rows_out_of_range=1,
    runtimes={
        "onnxruntime": FIGURES,
        "onnxruntime basic": dataclasses.replace(FIGURES, every_figure_as="onnxruntime"),
        "eager": dataclasses.replace(FIGURES, batch_rows_changed=256),
    },
    left_out={"CUDAExecutionProvider": "does not start"},
    warnings=["x"],
    comparisons=[],
    host={},
)


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_plot_is_reproducible(which: str, request: pytest.FixtureRequest) -> None:
    """Plotting again gives the published PNG, which is not blank and names no software."""
    trained: Trained = request.getfixturevalue(which)
    content = (trained.artifact / manifest.PROOF).read_bytes()
    session = Session((trained.artifact / manifest.MODEL).read_bytes())
    cases = hard_inputs(Predictor(trained.artifact).manifest.features, trained.run.rows)
    assert content == report.plot_errors(cases, session.run, trained.run.weights, which)
    check_picture(manifest.PROOF, content)
    assert b"Software" not in content
    assert len(np.unique(imread(io.BytesIO(content)).reshape(-1, 4), axis=0)) > 10


def test_table_explains_itself_in_80_columns() -> None:
    """Headings are full phrases, and runtimes with equal figures share a row."""
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(report.proof_table(PROOF))
    assert """\
                                                      labels that
                       max error    max error /   max differ from rows changed
runtime                  / bound probable bound  ULPs     float64  by batching
onnxruntime, basic         0.012          0.025 11050           0     0 of 256
eager                      0.012          0.025 11050           0   256 of 256
""" == "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def test_summary_and_remarks() -> None:
    """The summary counts skipped rows, and the remarks list skipped providers and warnings."""
    assert [
        "structure: every tensor",
        "outputs:   all within the rounding bound of the network in float64, on 1157 hard rows",
        "skipped:   1 of the hard rows (0.09%), which may overflow float32",
        "not evaluated: CUDAExecutionProvider: does not start",
        "warning: x",
    ] == [*report.proof_summary(PROOF).splitlines(), *report.proof_remarks(PROOF)]


def test_members_round_trip() -> None:
    """A proof converted to JSON members and back is equal to the original."""
    assert PROOF == Proof.from_members(PROOF.to_members())
