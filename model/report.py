"""The report of a run: a table of metrics, and a plot of the learning curves."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from rich.table import Table as RichTable

from model.fit.loop import Epoch
from model.metrics import Metrics
from tabular.number_format import format_number


def metrics_table(metrics: Metrics, baselines: Metrics) -> RichTable:
    """Return a table with a row for each part of the split, then one for each baseline."""
    columns = list(metrics["test"])
    table = RichTable("", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    rows = {f"  {name} baseline, test": values for name, values in baselines.items()}
    for name, values in (metrics | rows).items():
        style = "bold" if name == "test" else ""
        table.add_row(name, *(format_number(values[column]) for column in columns), style=style)
    return table


def plot_curves(history: Sequence[Epoch], best_epoch: int, title: str) -> bytes:
    """Plot the training and the validation loss against the epoch; return a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [epoch.number for epoch in history]
    axes.plot(epochs, [epoch.train_loss for epoch in history], label="train")
    axes.plot(epochs, [epoch.validation_loss for epoch in history], label="validation")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch, {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log", title=title)
    axes.legend()
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG without the software tag, which holds matplotlib's version."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120, metadata={"Software": None})
    return png.getvalue()
