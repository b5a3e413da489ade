"""model.report: metrics, baselines, the table at the end, the curves."""

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from model import metrics, report
from model.fit.loop import Epoch
from model.table.dataset import Table


def table(classes: tuple[str, ...] = ()) -> Table:
    """Make a table that tells no more than its task."""
    return Table(
        name="t",
        task="classification" if classes else "regression",
        features=("a", "b"),
        kinds=("float", "float"),
        x=np.zeros((0, 2), np.float32),
        targets=("t",),
        y=np.zeros(0),
        classes=classes,
        notes=(),
    )


def test_regression_metrics() -> None:
    """r2, rmse and mae are their textbook formulas."""
    rng = np.random.default_rng(0)
    truth = rng.normal(1000, 10, (50, 1))
    answers = truth + rng.normal(size=(50, 1))
    errors = answers - truth
    expected = {
        "r2": 1 - (errors**2).sum() / ((truth - truth.mean()) ** 2).sum(),
        "rmse": np.sqrt((errors**2).mean()),
        "mae": np.abs(errors).mean(),
    }
    assert pytest.approx(expected) == metrics.compute_metrics(table(), answers, truth)


def test_classification_metrics() -> None:
    """Accuracy of the likeliest class, and the mean negative log of what the true one was given, in nats."""
    answers = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    truth = np.array([0, 1, 1, 0])  # no row of class 2, as in a small test part
    expected = {"accuracy": 0.5, "log_loss": -np.log([0.7, 0.6, 0.25, 0.2]).mean()}
    assert pytest.approx(expected) == metrics.compute_metrics(
        table(("a", "b", "c")), answers, truth
    )


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Draw rows, (count, 2)."""
    return np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)


def test_regression_baselines() -> None:
    """The mean of the training rows, and a linear model that is exact where the truth is linear."""
    x, other = rows(60, 0), rows(20, 1)
    y, truth = (part.astype(np.float64) @ [[2.0, 0.0], [-1.0, 3.0]] + 5 for part in (x, other))
    found = metrics.baseline_metrics(table(), (x, y), (other, truth))
    mean = np.sqrt(((truth - y.mean(axis=0)) ** 2).mean(axis=0)).mean()
    assert pytest.approx(mean) == found["mean"]["rmse"]
    assert pytest.approx(1) == found["linear"]["r2"]


def test_classification_baselines() -> None:
    """The shares of the training rows, and a linear model that finds a linear boundary."""
    x, other = rows(200, 0), rows(100, 1)
    y, truth = (np.where(part[:, 0] > 0.3, 0, 1) for part in (x, other))
    found = metrics.baseline_metrics(table(("a", "b")), (x, y), (other, truth))
    share = (y == 1).mean()
    expected = {
        "accuracy": (truth == 1).mean(),
        "log_loss": -np.log(np.where(truth == 1, share, 1 - share)).mean(),
    }
    assert pytest.approx(expected) == found["majority"]
    assert found["linear"]["accuracy"] >= 0.95


def test_linear_baseline_sees_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first rows, all that it is fitted to, are of one class."""
    monkeypatch.setattr(metrics, "MAX_BASELINE_ROWS", 50)
    x = rows(200, 0)
    y = np.repeat([0, 2, 1], [150, 40, 10])
    found = metrics.baseline_metrics(table(("a", "b", "c")), (x, y), (x, y))
    assert pytest.approx(0.75) == found["majority"]["accuracy"]
    assert np.isfinite([value for values in found.values() for value in values.values()]).all()


def test_layout() -> None:
    """Test metrics stand last of the parts, right above the baselines on the same rows."""
    scores = {
        part: {"r2": value, "rmse": 1.0}
        for part, value in (("train", 0.9), ("validation", 0.8), ("test", 0.7))
    }
    text = io.StringIO()
    Console(file=text, width=80).print(
        report.metrics_table(scores, {"mean": {"r2": -0.1, "rmse": 123456.0}})
    )
    expected = [
        ["r2", "rmse"],
        ["train", "0.9", "1"],
        ["validation", "0.8", "1"],
        ["test", "0.7", "1"],
        ["mean", "baseline,", "test", "-0.1", "1.235e+05"],
    ]
    assert expected == [line.split() for line in text.getvalue().splitlines()]


def test_curves_are_a_reproducible_png() -> None:
    """The same history gives the same bytes, without a date or a version, also with a loss of 0."""
    history = [Epoch(1, 1.0, 2.0), Epoch(2, 0.5, 0.75), Epoch(3, 0.0, 1.0)]
    png = report.plot_curves(history, 2, "näme, loss")
    assert png == report.plot_curves(history, 2, "näme, loss")
    assert b"\x89PNG\r\n\x1a\n" == png[:8]
    assert (840, 480) == struct.unpack(">II", png[16:24])
    assert b"tEXt" not in png
