"""TODO: model.metrics."""

import warnings

import numpy as np

from model.run import Metrics
from model.table.dataset import Float32Array, FloatArray, IntArray, Table

MAX_BASELINE_ROWS = 20_000
"""The linear baseline is fitted to at most this many training rows."""


def compute_metrics(
    table: Table, answers: FloatArray, truth: FloatArray | IntArray
) -> dict[str, float]:
    """Compare answers with the truth.

    Args:
        table: tells the task.
        answers: (rows, classes) probabilities, or (rows, out_features) in the targets' units.
        truth: (rows,) class indices, or (rows, out_features).

    Returns:
        accuracy and log_loss (nats), or r2, rmse and mae (the targets' units; the mean over several targets).
    """
    from sklearn import metrics as m

    if table.classes:
        labels = np.arange(len(table.classes))
        return {
            "accuracy": float(m.accuracy_score(truth, answers.argmax(axis=1))),
            "log_loss": float(
                m.log_loss(truth, answers / answers.sum(axis=1, keepdims=True), labels=labels)
            ),
        }
    return {
        "r2": float(m.r2_score(truth, answers)),
        "rmse": float(m.root_mean_squared_error(truth, answers)),
        "mae": float(m.mean_absolute_error(truth, answers)),
    }


def baseline_metrics(
    table: Table,
    train: tuple[Float32Array, FloatArray | IntArray],
    test: tuple[Float32Array, FloatArray | IntArray],
) -> Metrics:
    """Return the test metrics of the majority (or mean) answer and of a linear model.

    Args:
        table: tells the task.
        train: standardised rows (rows, in_features) and their truth.
        test: likewise.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LinearRegression, LogisticRegression

    rows = np.arange(len(train[1]))[:MAX_BASELINE_ROWS]
    if table.classes:
        rows = np.union1d(rows, np.unique(train[1], return_index=True)[1])  # no class is left out
        models = {
            "majority": DummyClassifier(strategy="prior"),
            "linear": LogisticRegression(max_iter=300),
        }
    else:
        models = {"mean": DummyRegressor(), "linear": LinearRegression()}
    found = {}
    for name, estimator in models.items():
        with warnings.catch_warnings(
            category=ConvergenceWarning, action="ignore"
        ):  # a baseline may stop short
            estimator.fit(train[0][rows], train[1][rows])
        predict = estimator.predict_proba if table.classes else estimator.predict
        parts = np.array_split(
            test[0], len(test[0]) // MAX_BASELINE_ROWS + 1
        )  # a model may copy what it is given
        answers = np.concatenate([predict(part) for part in parts])
        found[name] = compute_metrics(table, answers.reshape(len(test[0]), -1), test[1])
    return found
