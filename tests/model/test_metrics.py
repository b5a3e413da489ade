"""Tests of model.metrics: the baselines, and the metrics against their textbook formulas."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model import metrics
from model.metrics import baseline_metrics, compute_metrics


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


def draw_rows(count: int, seed: int) -> NDArray[np.float32]:
    """Draw random rows of shape (count, 2)."""
    return np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)


def test_regression_baselines() -> None:
    """One baseline predicts the training mean; the linear one is exact for linear targets."""
    x, x_test = draw_rows(60, 0), draw_rows(20, 1)
    y, truth = (part.astype(np.float64) @ [[2.0, 0.0], [-1.0, 3.0]] + 5 for part in (x, x_test))
    baselines = baseline_metrics((x, y), (x_test, truth), 0)
    rmse = np.sqrt(((truth - y.mean(axis=0)) ** 2).mean(axis=0)).mean()
    assert pytest.approx(rmse) == baselines["mean"]["rmse"]
    assert pytest.approx(1) == baselines["linear"]["r2"]


def test_classification_baselines() -> None:
    """One baseline predicts the training class shares; the linear one fits a linear boundary."""
    x, x_test = draw_rows(200, 0), draw_rows(100, 1)
    y, truth = (np.where(part[:, 0] > 0.3, 0, 1) for part in (x, x_test))
    baselines = baseline_metrics((x, y), (x_test, truth), 2)
    share = (y == 1).mean()
    expected = {
        "accuracy": (truth == 1).mean(),
        "log_loss": -np.log(np.where(truth == 1, share, 1 - share)).mean(),
    }
    assert pytest.approx(expected) == baselines["majority"]
    assert baselines["linear"]["accuracy"] >= 0.95


def test_baselines_see_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines are finite even if the rows to which they are fitted have only one class."""
    monkeypatch.setattr(metrics, "MAX_BASELINE_ROWS", 50)
    x = draw_rows(200, 0)
    y = np.repeat([0, 2, 1], [150, 40, 10])
    baselines = baseline_metrics((x, y), (x, y), 3)
    assert pytest.approx(0.75) == baselines["majority"]["accuracy"]
    assert np.isfinite([value for values in baselines.values() for value in values.values()]).all()
