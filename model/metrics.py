"""Metrics of predictions, and of two baselines to compare with."""

import warnings

import numpy as np

from model.table.dataset import Float32Array, FloatArray, IntArray

MAX_BASELINE_ROWS = 20_000
"""Maximum number of training rows for a baseline, and of rows per call of its prediction."""
Truth = FloatArray | IntArray
"""Class indices, (rows,), or the targets of a regression, (rows, out_features)."""
RowsWithTruth = tuple[Float32Array, Truth]
"""Standardised rows, (rows, in_features), and their truth."""
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


def baseline_metrics(train: RowsWithTruth, test: RowsWithTruth, class_count: int) -> Metrics:
    """Return the test metrics of a constant prediction (majority or mean) and of a linear model."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LinearRegression, LogisticRegression

    rows = np.arange(len(train[1]))[:MAX_BASELINE_ROWS]
    if class_count:
        rows = np.union1d(rows, np.unique(train[1], return_index=True)[1])  # includes every class
        linear = LogisticRegression(max_iter=300)
        estimators = {"majority": DummyClassifier(strategy="prior"), "linear": linear}
    else:
        estimators = {"mean": DummyRegressor(), "linear": LinearRegression()}
    metrics = {}
    # Slices bound the memory for the copies that an estimator makes of its input.
    slices = np.array_split(test[0], len(test[0]) // MAX_BASELINE_ROWS + 1)
    for name, estimator in estimators.items():
        with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
            estimator.fit(train[0][rows], train[1][rows])
        predict = estimator.predict_proba if class_count else estimator.predict
        predictions = np.concatenate([predict(part) for part in slices])
        metrics[name] = compute_metrics(predictions.reshape(len(test[0]), -1), test[1], class_count)
    return metrics
