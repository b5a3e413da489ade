"""Measure a fitted network and its baselines on the parts of a table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.metrics import (
    Metrics,
    baseline_metrics,
    baseline_rows,
    baseline_warning,
    compute_metrics,
)
from model.net import ScaledNet
from model.scaling import predict_rows
from model.table.column_statistics import ColumnStatistics, answer_warnings
from model.table.dataset import IntArray, Table


@dataclass(frozen=True)
class Measurement:
    """The metrics of a network and of its baselines, with remarks for its user."""

    metrics: Metrics
    """Metrics of the network, by part of the split."""
    baselines: Metrics
    """Metrics of the baselines on the test rows."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    """Remarks that need no action."""


def measure(
    net: ScaledNet, table: Table, parts: Mapping[str, IntArray], targets: ColumnStatistics | None
) -> Measurement:
    """Measure a network, which is on the CPU, and its baselines.

    targets holds the statistics of the targets of a regression.

    Raises:
        DataError: a prediction is infinite or NaN.
    """
    metrics, warnings = {}, []
    for part, indices in parts.items():
        truth, predictions = table.y[indices], predict_rows(net, table.x, indices)
        metrics[part] = compute_metrics(predictions, truth, len(table.classes))
        if part == "test" and targets is not None:
            errors = np.sqrt(np.square(predictions - truth).mean(axis=0))
            warnings += answer_warnings(table.targets, targets, errors)
    train = parts["train"]
    baselines = baseline_metrics(table, parts)
    if warning := baseline_warning(table.task, metrics, baselines):
        warnings.append(warning)
    count = len(baseline_rows(table, train))
    note = f"the baselines are fitted to {count:,} of the {len(train):,} training rows"
    notes = (note,) if count < len(train) else ()
    return Measurement(metrics, baselines, tuple(warnings), notes)
