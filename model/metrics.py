"""Metrics of predictions, and of two baselines to compare with."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.table.dataset import FloatArray, IntArray, Table, Task
from tabular.number_format import format_number

MAX_BASELINE_ROWS = 20_000
"""Maximum number of training rows for a baseline, and of rows per call of its prediction."""
MAX_BASELINE_VALUES = 1 << 25
"""Maximum number of feature values in the rows of a baseline, which are copied to float64."""
MIN_THREADED_VALUES = 1 << 22
"""Minimum number of feature values in the rows of a baseline for which several threads are used."""
L2_PENALTIES = (1, 10, 100, 1000, 10_000)
"""Penalties of the linear baseline to try: factors of its squared weights in the sum of its losses.

The features are standardised, so a penalty of 1 weighs about as much as one row. It decides between
weights that predict the training rows equally well, as those of collinear columns do.
"""
MAX_LOGISTIC_ITERATIONS = 300
DECISIVE_METRICS: Mapping[Task, tuple[str, int]] = {
    "classification": ("log_loss", -1),
    "regression": ("r2", 1),
}
"""The metric that corresponds to the loss of the fit, and 1 if higher is better, else -1."""
Truth = FloatArray | IntArray
"""Class indices, (rows,), or the targets of a regression, (rows, out_features)."""
Metrics = dict[str, dict[str, float]]
"""Metric values, keyed by part of the split or name of a baseline, then by name of the metric."""


def compute_metrics(predictions: FloatArray, truth: Truth, class_count: int) -> dict[str, float]:
    """Return accuracy and log_loss (nats), or r2, rmse and mae (averages over the targets).

    predictions are probabilities, (rows, classes), or (rows, out_features) in the units of the
    targets. class_count is 0 for a regression.
    """
    from sklearn import metrics as m

    if class_count:
        probabilities = predictions / predictions.sum(axis=1, keepdims=True)
        return {
            "accuracy": float(m.accuracy_score(truth, predictions.argmax(axis=1))),
            "log_loss": float(m.log_loss(truth, probabilities, labels=np.arange(class_count))),
        }
    return {
        "r2": float(m.r2_score(truth, predictions)),
        "rmse": float(m.root_mean_squared_error(truth, predictions)),
        "mae": float(m.mean_absolute_error(truth, predictions)),
    }


def baseline_metrics(table: Table, parts: Mapping[str, IntArray]) -> Metrics:
    """Return the test metrics of a constant prediction (majority or mean) and of a linear model.

    The linear model is a ridge or a logistic regression on standardised features in float64. Like
    the network's epoch, its penalty is chosen by the validation rows.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from threadpoolctl import threadpool_limits

    rows = baseline_rows(table, parts["train"])
    x, y = table.x[rows].astype(np.float64), table.y[rows]
    constant = DummyClassifier(strategy="prior") if table.classes else DummyRegressor()
    metric, sign = DECISIVE_METRICS[table.task]
    linear, best = None, -math.inf
    # More threads slow small fits down, especially when other processes share the cores.
    with threadpool_limits(1 if x.size < MIN_THREADED_VALUES else None, user_api="blas"):
        for penalty in L2_PENALTIES:
            model = _fit_linear(x, y, penalty, classification=bool(table.classes))
            score = sign * _measure(model, table, parts["validation"])[metric]
            if score <= best:
                break
            linear, best = model, score
        models = {"majority" if table.classes else "mean": constant.fit(x, y), "linear": linear}
        return {name: _measure(model, table, parts["test"]) for name, model in models.items()}


def _fit_linear(x: FloatArray, y: Truth, penalty: float, *, classification: bool) -> Any:
    """Return an estimator that standardises rows x; the penalty does not include the intercept."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Both minimise the sum of the losses of the rows and a multiple of the squared weights.
    logistic = LogisticRegression(C=1 / penalty, max_iter=MAX_LOGISTIC_ITERATIONS)
    model = make_pipeline(StandardScaler(), logistic if classification else Ridge(alpha=penalty))
    with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
        return model.fit(x, y)


def _measure(model: Any, table: Table, rows: IntArray) -> dict[str, float]:
    """Return the metrics of an estimator on the rows at these indices."""
    predict = model.predict_proba if table.classes else model.predict
    # Slices bound the memory for the copies in float64.
    count = len(rows) // _max_rows(table) + 1
    slices = np.array_split(rows, count)
    predictions = np.concatenate([predict(table.x[i].astype(np.float64)) for i in slices])
    return compute_metrics(predictions.reshape(len(rows), -1), table.y[rows], len(table.classes))


def baseline_rows(table: Table, train: IntArray) -> IntArray:
    """Return the indices of the training rows for the baselines; every class has at least one."""
    rows = train[: _max_rows(table)]
    if table.classes:
        first_of_class = np.unique(table.y[train], return_index=True)[1]
        rows = np.union1d(rows, train[first_of_class])
    return rows


def _max_rows(table: Table) -> int:
    return min(MAX_BASELINE_ROWS, max(1, MAX_BASELINE_VALUES // len(table.features)))


def baseline_warning(task: Task, metrics: Metrics, baselines: Metrics) -> str | None:
    """Return a sentence about the baselines that the network does not beat, or None.

    They are compared on the test rows: by log_loss for a classification, by r2 for a regression.
    """
    metric, sign = DECISIVE_METRICS[task]
    value = metrics["test"][metric]

    def rank(values: Mapping[str, float]) -> tuple[float, float]:
        # If all test targets are equal, r2 is 0 for every model, but rmse is not.
        return sign * values[metric], -values.get("rmse", 0.0)

    network = rank(metrics["test"])
    better_scores = {name: m[metric] for name, m in baselines.items() if rank(m) >= network}
    if not better_scores:
        return None
    names = " or the ".join(f"{name} baseline" for name in better_scores)
    figures = " and ".join(map(format_number, better_scores.values()))
    better = "higher" if sign > 0 else "lower"
    return (
        f"the network does not beat the {names} on the test rows: {metric} {format_number(value)} "
        f"against {figures} ({better} is better)"
    )
