"""export.report: what a person reads of a proof."""

import io

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from export.proof import report
from export.proof.hard_inputs import hard_inputs
from service.artifact import manifest
from service.png import check_png
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.trained import Trained


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_plot_is_reproducible(which: str, request: pytest.FixtureRequest) -> None:
    """The same bytes again: a whole PNG that names no software, and is no blank page."""
    made: Trained = request.getfixturevalue(which)
    content = (made.artifact / manifest.PROOF).read_bytes()
    session = Session((made.artifact / manifest.MODEL).read_bytes())
    cases = hard_inputs(Predictor(made.artifact).manifest.features, made.run.rows)
    assert content == report.plot_errors(cases, session.run, made.run.weights, which)
    check_png(manifest.PROOF, content)
    assert b"Software" not in content
    assert len(np.unique(imread(io.BytesIO(content)).reshape(-1, 4), axis=0)) > 10


def test_table_fits_a_terminal(flowers: Trained) -> None:
    """A line per runtime with its figures, in 80 columns."""
    proof = Predictor(flowers.artifact).manifest.proof
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(report.proof_table(proof))
    heading, *lines = capture.get().splitlines()
    assert ["error/bound", "/probable", "ULPs", "labels", "batch"] == heading.split()
    assert list(proof["runtimes"]) == [line.rsplit(maxsplit=5)[0].strip() for line in lines]
    served = proof["runtimes"]["onnxruntime"]
    assert f"{served['max_error_over_bound']:.2g}" == lines[0].split()[1]


def test_share_out_of_range_is_said(flowers: Trained) -> None:
    """Rows that prove nothing are counted beside those that do."""
    assert report.proof_summary({"rows": 99, "rows_out_of_range": 1}).startswith(
        "100 hard rows, 1 (1.00%) beyond float32's"
    )


def test_what_was_not_asked_is_said() -> None:
    """A provider that was left out stands beside the warnings."""
    proof = {"left_out": {"CUDAExecutionProvider": "does not start"}, "warnings": ["x"]}
    assert ["not asked: CUDAExecutionProvider: does not start", "warning: x"] == list(
        report.proof_remarks(proof)
    )
