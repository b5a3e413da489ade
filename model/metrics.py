"""Metrics of predictions on a part of the split, and those of two baselines."""

import warnings

import numpy as np

from model.table.dataset import Float32Array, FloatArray, IntArray

MAX_BASELINE_ROWS = 20_000
"""Maximum number of training rows that a baseline is fitted to."""

Truth = FloatArray | IntArray
"""Class indices, (rows,), or the values of a regression, (rows, out_features)."""
RowsWithTruth = tuple[Float32Array, Truth]
"""Standardised rows, (rows, in_features), and their truth."""
Metrics = dict[str, dict[str, float]]
"""Values of metrics: by part of the split or by baseline, then by metric."""


def compute_metrics(predictions: FloatArray, truth: Truth, class_count: int) -> dict[str, float]:
    """Return accuracy and log_loss (nats), or r2, rmse and mae (units of the targets, averaged).

    Args:
        predictions: (rows, classes) probabilities, or (rows, out_features) in the targets' units.
        truth: the true classes or values.
        class_count: number of classes, 0 for a regression.
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
        first_of_each_class = np.unique(train[1], return_index=True)[1]
        rows = np.union1d(rows, first_of_each_class)
        linear = LogisticRegression(max_iter=300)
        estimators = {"majority": DummyClassifier(strategy="prior"), "linear": linear}
    else:
        estimators = {"mean": DummyRegressor(), "linear": LinearRegression()}
    metrics = {}
    # An estimator may copy its input, so it gets a large test part in slices.
    slices = np.array_split(test[0], len(test[0]) // MAX_BASELINE_ROWS + 1)
    for name, estimator in estimators.items():
        # A baseline need not converge.
        with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
            estimator.fit(train[0][rows], train[1][rows])
        predict = estimator.predict_proba if class_count else estimator.predict
        predictions = np.concatenate([predict(part) for part in slices])
        metrics[name] = compute_metrics(predictions.reshape(len(test[0]), -1), test[1], class_count)
    return metrics
