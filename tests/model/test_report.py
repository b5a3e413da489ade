"""Tests of model.report: the table of metrics and the learning curves."""

import io
import struct

from rich.console import Console

from model.fit.loop import Epoch
from model.report import metrics_table, plot_curves


def test_metrics_table() -> None:
    """The test metrics directly precede the baselines, which are computed on the same test rows."""
    r2 = {"train": 0.9, "validation": 0.8, "test": 0.7}
    metrics = {part: {"r2": value, "rmse": 1.0} for part, value in r2.items()}
    text = io.StringIO()
    table = metrics_table(metrics, {"mean": {"r2": -0.1, "rmse": 123456.0}})
    Console(file=text, width=80).print(table)
    expected = [
        ["r2", "rmse"],
        ["train", "0.9", "1"],
        ["validation", "0.8", "1"],
        ["test", "0.7", "1"],
        ["mean", "baseline,", "test", "-0.1", "123,456"],
    ]
    assert expected == [line.split() for line in text.getvalue().splitlines()]


def test_curves_are_a_reproducible_png() -> None:
    """Plotting a history twice, even with a loss of 0, gives the same PNG, without metadata."""
    history = [Epoch(1, 1.0, 2.0), Epoch(2, 0.5, 0.75), Epoch(3, 0.0, 1.0)]
    png = plot_curves(history, 2, "näme, loss")
    assert png == plot_curves(history, 2, "näme, loss")
    assert b"\x89PNG\r\n\x1a\n" == png[:8]
    assert (840, 480) == struct.unpack(">II", png[16:24])
    assert b"tEXt" not in png
