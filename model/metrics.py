"""Metrics of predictions, and of two baselines to compare with."""

import warnings

import numpy as np

from model.table.dataset import FloatArray, IntArray, Table
from tabular.number_format import format_number

MAX_BASELINE_ROWS = 20_000
"""Maximum number of training rows for a baseline, and of rows per call of its prediction."""
MAX_BASELINE_VALUES = 1 << 25
"""Maximum number of feature values in those rows, which are copied to float64."""
L2_PENALTY = 1.0
"""Penalty of the linear baseline: the factor of its squared weights in the sum of its losses.

The features are standardised, so it weighs about as much as one row. It decides between weights
that predict the training rows equally well, as those of collinear columns do.
"""
MAX_LOGISTIC_ITERATIONS = 300
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


def baseline_metrics(table: Table, train: IntArray, test: IntArray) -> Metrics:
    """Return the test metrics of a constant prediction (majority or mean) and of a linear model.

    The linear model is a ridge regression, or a logistic regression with the same penalty, on
    standardised features in float64. train and test are indices of rows.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    size = baseline_row_count(len(train), len(table.features))
    rows, truth = train[:size], table.y[test]
    if table.classes:
        first_of_class = np.unique(table.y[train], return_index=True)[1]
        rows = np.union1d(rows, train[first_of_class])
        logistic = LogisticRegression(C=1 / L2_PENALTY, max_iter=MAX_LOGISTIC_ITERATIONS)
        constant, linear = ("majority", DummyClassifier(strategy="prior")), logistic
    else:
        constant, linear = ("mean", DummyRegressor()), Ridge(alpha=L2_PENALTY)
    metrics = {}
    # Slices bound the memory for the copies in float64.
    slices = np.array_split(test, len(test) // size + 1)
    for name, model in (constant, ("linear", make_pipeline(StandardScaler(), linear))):
        with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
            model.fit(table.x[rows].astype(np.float64), table.y[rows])
        predict = model.predict_proba if table.classes else model.predict
        predictions = np.concatenate([predict(table.x[i].astype(np.float64)) for i in slices])
        predictions = predictions.reshape(len(test), -1)
        metrics[name] = compute_metrics(predictions, truth, len(table.classes))
    return metrics


def baseline_row_count(rows: int, features: int) -> int:
    """Return the number of the training rows to which the baselines are fitted."""
    return min(rows, MAX_BASELINE_ROWS, max(1, MAX_BASELINE_VALUES // features))


def baseline_warning(metrics: Metrics, baselines: Metrics) -> str | None:
    """Return a sentence about the baselines that the network does not beat, or None.

    They are compared on the test rows by the metric that corresponds to the loss of the fit:
    log_loss for a classification, and r2 for a regression.
    """
    name, sign = ("log_loss", -1) if "log_loss" in metrics["test"] else ("r2", 1)
    value = metrics["test"][name]
    unbeaten = {
        baseline: values[name]
        for baseline, values in baselines.items()
        if name in values and sign * value <= sign * values[name]
    }
    if not unbeaten:
        return None
    names = " or the ".join(f"{baseline} baseline" for baseline in unbeaten)
    figures = " and ".join(map(format_number, unbeaten.values()))
    better = "higher" if sign > 0 else "lower"
    return (
        f"the network does not beat the {names} on the test rows: {name} {format_number(value)} "
        f"against {figures} ({better} is better)"
    )
