"""Tests of model.metrics: the baselines, and the metrics against their textbook formulas."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from model import metrics
from model.metrics import baseline_metrics, baseline_warning, compute_metrics
from model.table.dataset import FloatArray, IntArray, Table, Task
from tests.model.tables import make_table


def test_regression_metrics() -> None:
    """The metrics r2, rmse and mae equal their textbook formulas."""
    rng = np.random.default_rng(0)
    truth = rng.normal(1000, 10, (50, 1))
    errors = rng.normal(size=(50, 1))
    expected = {
        "r2": 1 - (errors**2).sum() / ((truth - truth.mean()) ** 2).sum(),
        "rmse": np.sqrt((errors**2).mean()),
        "mae": np.abs(errors).mean(),
    }
    assert pytest.approx(expected) == compute_metrics(truth + errors, truth, 0)


def test_classification_metrics() -> None:
    """The log loss is the mean negative log of the true class's probability, in nats."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    truth = np.array([0, 1, 1, 0])  # class 2 is missing, as in a small test part
    expected = {"accuracy": 0.5, "log_loss": -np.log([0.7, 0.6, 0.25, 0.2]).mean()}
    assert pytest.approx(expected) == compute_metrics(probabilities, truth, 3)


def table_of(y: Any, x: Any, classes: int = 0) -> Table:
    """Make a table with these targets, (rows,), and these features, (rows, in_features)."""
    width = x.shape[1]
    return dataclasses.replace(
        make_table(),
        task="classification" if classes else "regression",
        features=tuple(f"x{i}" for i in range(width)),
        kinds=("float",) * width,
        x=x.astype(np.float32),
        y=y if classes else y.reshape(len(x), -1).astype(np.float64),
        classes=tuple(range(classes)),
    )


def in_order(rows: int) -> dict[str, IntArray]:
    """Return parts of 60, 20 and 20 percent: the first, the next and the last rows."""
    train, validation, test = np.split(np.arange(rows), [rows * 3 // 5, rows * 4 // 5])
    return {"train": train, "validation": validation, "test": test}


def test_regression_baselines() -> None:
    """One baseline predicts the training mean; the linear one is exact for linear targets."""
    x = np.random.default_rng(0).normal(size=(1000, 2))
    y = x @ [[2.0, 0.0], [-1.0, 3.0]] + 5
    parts = in_order(1000)
    baselines = baseline_metrics(table_of(y, x), parts)
    errors = y[parts["test"]] - y[parts["train"]].mean(axis=0)
    assert pytest.approx(np.sqrt((errors**2).mean(axis=0)).mean()) == baselines["mean"]["rmse"]
    assert pytest.approx(1, abs=1e-4) == baselines["linear"]["r2"]


def test_linear_baseline_is_a_ridge_regression() -> None:
    """The linear baseline solves the normal equations of standardised columns and a penalty."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32).astype(np.float64)
    y = x @ [1.0, -2.0, 0.5] + np.random.default_rng(1).normal(size=200)
    parts = in_order(200)
    train, test = parts["train"], parts["test"]
    z = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    offset = y[train].mean()
    gram = z[train].T @ z[train] + np.eye(3)
    predictions = z[test] @ np.linalg.solve(gram, z[train].T @ (y[train] - offset)) + offset
    expected = compute_metrics(predictions[:, None], y[test][:, None], 0)
    assert pytest.approx(expected) == baseline_metrics(table_of(y, x), parts)["linear"]


def test_classification_baselines() -> None:
    """One baseline predicts the training class shares; the linear one fits a linear boundary."""
    x = np.random.default_rng(0).normal(size=(300, 2))
    y = np.where(x[:, 0] > 0.3, 0, 1)
    parts = in_order(300)
    baselines = baseline_metrics(table_of(y, x, 2), parts)
    share, truth = (y[parts["train"]] == 1).mean(), y[parts["test"]]
    expected = {
        "accuracy": (truth == 1).mean(),
        "log_loss": -np.log(np.where(truth == 1, share, 1 - share)).mean(),
    }
    assert pytest.approx(expected) == baselines["majority"]
    assert baselines["linear"]["accuracy"] >= 0.95


def one_hot(categories: IntArray) -> FloatArray:
    """Return a column per category, so the columns add up to 1."""
    return np.eye(categories.max() + 1)[categories]


RNG = np.random.default_rng(1)
CATEGORIES = RNG.choice(60, 1000, p=RNG.dirichlet(np.full(60, 0.3)))
MONTHS = RNG.integers(0, 12, 1000)
SIZES = RNG.normal(size=1000)
COLLINEAR = np.column_stack(
    [one_hot(CATEGORIES), one_hot(MONTHS), SIZES, 1000 * SIZES + 5, MONTHS, MONTHS // 3]
)
NOISE = RNG.normal(size=(300, 200))


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (COLLINEAR, 180_000 + 30_000 * SIZES + 9_000 * RNG.normal(size=1000), 0),
        (SIZES[:, None], 1.7e9 + 600 * SIZES + 100 * RNG.normal(size=1000), 0),
        (1.7e9 + 5e4 * SIZES[:, None], SIZES + 0.1 * RNG.normal(size=1000), 0),
        (NOISE, RNG.normal(size=300), 0),
        (COLLINEAR, (SIZES > 0).astype(np.int64), 2),
        (NOISE, RNG.integers(0, 3, 300), 3),
    ],
    ids=["collinear", "time", "time feature", "noise", "collinear classes", "noise classes"],
)
def test_linear_baseline_is_sound(x: FloatArray, y: Any, classes: int) -> None:
    """The linear baseline is not much worse than a constant, and far better where it can be."""
    constant, linear = baseline_metrics(table_of(y, x, classes), in_order(len(x))).values()
    if x is NOISE:
        assert linear.get("r2", 0) > -0.3
        assert linear.get("log_loss", 0) < 1.3 * constant.get("log_loss", 1)
    else:
        assert linear.get("r2", 1) > 0.8
        assert linear.get("accuracy", 1) > 0.9


def test_baselines_see_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines are finite even if the rows to which they are fitted have only one class."""
    monkeypatch.setattr(metrics, "MAX_BASELINE_ROWS", 50)
    x = np.random.default_rng(0).normal(size=(200, 2))
    parts = {part: np.arange(200) for part in ("train", "validation", "test")}
    baselines = baseline_metrics(table_of(np.repeat([0, 2, 1], [150, 40, 10]), x, 3), parts)
    assert pytest.approx(0.75) == baselines["majority"]["accuracy"]
    assert np.isfinite([value for values in baselines.values() for value in values.values()]).all()


@pytest.mark.parametrize(
    ("task", "metric", "network", "baselines", "expected"),
    [
        ("regression", "r2", 0.5, {"mean": -0.1, "linear": 0.4}, None),
        (
            "regression",
            "r2",
            0.3,
            {"mean": -0.1, "linear": 0.4},
            "the network does not beat the linear baseline on the test rows: r2 0.3 against 0.4 "
            "(higher is better)",
        ),
        ("classification", "log_loss", 0.2, {"majority": 2.3, "linear": 0.25}, None),
        (
            "classification",
            "log_loss",
            2.5,
            {"majority": 2.3, "linear": 2.5},
            "the network does not beat the majority baseline or the linear baseline on the test "
            "rows: log_loss 2.5 against 2.3 and 2.5 (lower is better)",
        ),
    ],
)
def test_warning_about_unbeaten_baselines(
    task: Task, metric: str, network: float, baselines: dict[str, float], expected: str | None
) -> None:
    """A sentence names the baselines that the network does not beat, the metric and the figures."""
    values = {name: {metric: value} for name, value in baselines.items()}
    assert expected == baseline_warning(task, {"test": {metric: network}}, values)


@pytest.mark.parametrize(("rmse", "is_beaten"), [(0.007, True), (9.0, False)])
def test_rmse_decides_if_the_targets_are_equal(rmse: float, is_beaten: bool) -> None:
    """With equal test targets, r2 is 0 for every model that is not perfect."""
    network, baselines = {"r2": 0.0, "rmse": rmse}, {"mean": {"r2": 0.0, "rmse": 5.0}}
    assert is_beaten == (baseline_warning("regression", {"test": network}, baselines) is None)
