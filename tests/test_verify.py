"""export.verify: an answer that rounding does not explain is found, in any runtime and on any case."""

from collections.abc import Callable

import numpy as np
import pytest

from export import ProofError
from export.verify import BATCHES, Case, Outputs, check_contagion, compare, hard_inputs, prove
from service import manifest
from service.manifest import Manifest
from service.predictor import Session
from tests.conftest import Made


def session(made: Made) -> Session:
    """Open the ONNX file as the service does."""
    return Session((made.artifact / manifest.MODEL).read_bytes())


def stated(made: Made) -> Manifest:
    """Read the manifest."""
    return Manifest.from_json((made.artifact / manifest.MANIFEST).read_bytes())


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_healthy_artifact_is_proved(which: str, request: pytest.FixtureRequest) -> None:
    """No false alarm, and the evidence covers every runtime, output and batch size."""
    made: Made = request.getfixturevalue(which)
    files = tuple((made.artifact / name).read_bytes() for name in (manifest.MODEL, manifest.TORCHSCRIPT))
    proof = prove((files[0], files[1]), made.run.weights, stated(made).features, made.run.rows)
    assert {"onnxruntime", "torchscript", "eager"} == set(proof["max_error_over_bound"])
    assert all(0 < worst <= 1 for worst in proof["max_error_over_bound"].values())
    assert 1 == proof["rows_out_of_range"]  # the largest finite floats
    seen = {(c["runtime"], c["output"]) for c in proof["comparisons"]}
    assert {(r, o) for r in proof["max_error_over_bound"] for o in manifest.OUTPUTS[stated(made).task]} == seen
    assert {f"batch of {size}" for size in BATCHES} <= {c["case"] for c in proof["comparisons"]}


def test_hard_inputs_are_what_they_are_called(houses: Made) -> None:
    """Every feature stands alone in a one-hot row of either sign, and the extremes are the training rows'."""
    features = stated(houses).features
    cases = {case.name: case.rows for case in hard_inputs(features, houses.run.rows)}
    assert np.array_equal(np.concatenate([np.eye(3), -np.eye(3)]), cases["one-hot"])
    assert [[np.float32(f.min) for f in features], [np.float32(f.max) for f in features]] == [
        list(row) for row in cases["training minimum and maximum"]
    ]
    assert (np.abs(cases["subnormals"]) < np.finfo(np.float32).tiny).all()
    assert np.array_equal(houses.run.rows, cases["real rows"])
    assert all(np.isfinite(rows).all() for rows in cases.values())


def spoiled(edit: Callable[[Outputs], None], made: Made) -> Callable[[np.ndarray], Outputs]:
    """Return a runtime whose answers are edited."""

    def run(rows: np.ndarray) -> Outputs:
        answers = {name: values.copy() for name, values in session(made).run(rows).items()}
        edit(answers)
        return answers

    return run


def add(name: str, amount: float) -> Callable[[Outputs], None]:
    """Return an edit of one element of one output."""

    def edit(answers: Outputs) -> None:
        answers[name].flat[5] += amount

    return edit


@pytest.mark.parametrize(
    ("edit", "output"),
    [
        (add("logits", 1e-2), "logits"),
        (add("logits", np.nan), "logits"),
        (add("logits", np.inf), "logits"),
        (add("probabilities", 1e-3), "probabilities"),
        (add("label", 1), "label"),
        (add("label", 7), "label"),
        (add("label", -9), "label"),
    ],
    ids=["logit", "NaN", "infinity", "probability", "label", "label too large", "label negative"],
)
def test_one_wrong_element_is_found(flowers: Made, edit: Callable[[Outputs], None], output: str) -> None:
    """One element of one output off by more than rounding fails that output, and says where."""
    case = Case("real rows", flowers.run.rows)
    failed = [c for c in compare(case, "x", spoiled(edit, flowers), flowers.run.weights) if not c.passed]
    assert [output] == [comparison.output for comparison in failed]
    columns = 1 if output == "label" else 3
    assert 5 // columns == (failed[0].worst or (None,))[0]


def test_wrong_shape_is_refused(flowers: Made) -> None:
    """An answer of another shape is no answer."""

    def cut(answers: dict[str, np.ndarray]) -> None:
        answers["logits"] = answers["logits"][:1]

    case = Case("real rows", flowers.run.rows)
    with pytest.raises(ProofError, match=r"x, real rows: logits: expected shape \(\d+, 3\), found \(1, 3\)"):
        compare(case, "x", spoiled(cut, flowers), flowers.run.weights)  # type: ignore[arg-type]


def test_contagion(flowers: Made) -> None:
    """NaN that spreads to other rows, or that is swallowed, is refused."""
    check_contagion("healthy", session(flowers).run, flowers.run.rows)

    def spread(rows: np.ndarray) -> Outputs:
        return {"logits": np.full((3, 3), rows.sum())}

    def swallow(rows: np.ndarray) -> Outputs:
        return {"logits": np.zeros((3, 3))}

    with pytest.raises(ProofError, match="expected the other rows unchanged"):
        check_contagion("x", spread, flowers.run.rows)
    with pytest.raises(ProofError, match="expected every logits of it NaN"):
        check_contagion("x", swallow, flowers.run.rows)


def test_sweep_mostly_out_of_range_fails(houses: Made) -> None:
    """Rows that may overflow prove nothing; a sweep of such rows is not called a proof."""
    files = tuple((houses.artifact / name).read_bytes() for name in (manifest.MODEL, manifest.TORCHSCRIPT))
    huge = np.full((200, 3), 3e38, np.float32)
    with pytest.raises(ProofError, match="expected at most 5% of rows out of float32's range"):
        prove((files[0], files[1]), houses.run.weights, stated(houses).features, huge)
