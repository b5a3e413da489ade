"""What a person reads of a run: metrics beside their baselines, the table at the end, the learning curves."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from rich.table import Table as RichTable

from model.checkpoint import Metrics
from model.table import Float32Array, FloatArray, IntArray, Table
from model.train import Epoch

BASELINE_ROWS = 20_000
"""The linear baseline is fitted to at most this many training rows."""


def metrics(table: Table, answers: FloatArray, truth: FloatArray | IntArray) -> dict[str, float]:
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
            "log_loss": float(m.log_loss(truth, answers / answers.sum(axis=1, keepdims=True), labels=labels)),
        }
    return {
        "r2": float(m.r2_score(truth, answers)),
        "rmse": float(m.root_mean_squared_error(truth, answers)),
        "mae": float(m.mean_absolute_error(truth, answers)),
    }


def baselines(
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

    rows = np.arange(len(train[1]))[:BASELINE_ROWS]
    if table.classes:
        rows = np.union1d(rows, np.unique(train[1], return_index=True)[1])  # no class is left out
        models = {"majority": DummyClassifier(strategy="prior"), "linear": LogisticRegression(max_iter=300)}
    else:
        models = {"mean": DummyRegressor(), "linear": LinearRegression()}
    found = {}
    for name, estimator in models.items():
        with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):  # a baseline may stop short
            estimator.fit(train[0][rows], train[1][rows])
        predict = estimator.predict_proba if table.classes else estimator.predict
        parts = np.array_split(test[0], len(test[0]) // BASELINE_ROWS + 1)  # a model may copy what it is given
        answers = np.concatenate([predict(part) for part in parts])
        found[name] = metrics(table, answers.reshape(len(test[0]), -1), test[1])
    return found


def layout(scores: Metrics, lines: Metrics) -> RichTable:
    """Lay out the network's metrics by part, then the baselines' on the test rows."""
    columns = list(scores["test"])
    table = RichTable(box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    rows = {part: values for part, values in scores.items() if part != "test"}
    rows |= {"test": scores["test"]} | {f"  {name} baseline, test": values for name, values in lines.items()}
    for name, values in rows.items():
        style = "bold" if name == "test" else ""
        table.add_row(name, *(f"{values[column]:.4g}" for column in columns), style=style)
    return table


def curves(history: Sequence[Epoch], best_epoch: int, title: str) -> bytes:
    """Draw the training and validation loss against the epoch; return a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [epoch.number for epoch in history]
    axes.plot(epochs, [epoch.train_loss for epoch in history], label="train")
    axes.plot(epochs, [epoch.validation_loss for epoch in history], label="validation")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch, {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log", title=title)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120, metadata={"Software": None})
    return png.getvalue()
