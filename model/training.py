"""Train a network on a Table: split and standardise the rows, fit, measure, and save the run."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from cli.interruption import defer_signals
from cli.staging import publish, staged
from model.config import CHECKPOINT_INTERVAL_SECONDS, TrainConfig
from model.errors import DataError, Diverged, SettingError
from model.fit.checkpoint import Checkpoint, CheckpointWriter, TrainRequest
from model.fit.devices import float32_arithmetic, max_threads, thread_count
from model.fit.loop import Epoch, FitState
from model.fit.progress import resumable, run_to_end
from model.measurement import Measurement, measure
from model.net import ScaledNet
from model.report import metrics_table, plot_curves
from model.run import MAX_SAVED_ROWS, Feature, RunRecord, save_run
from model.scaling import build_net, standardise_rows
from model.table.column_statistics import (
    ColumnStatistics,
    answer_warnings,
    check_targets,
    column_statistics,
    column_warnings,
)
from model.table.dataset import IntArray, Table
from model.table.split import split
from tabular.names import quote_names
from tabular.number_format import format_number


@dataclass(frozen=True)
class PreparedTable:
    """A table, its split, and the statistics of and warnings about its training rows."""

    table: Table
    parts: Mapping[str, IntArray]
    """Row indices of the parts train, validation and test."""
    statistics: ColumnStatistics
    """Statistics of the features."""
    target_statistics: ColumnStatistics | None
    """Statistics of the targets; None for a classification."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FitResult:
    """The best epoch of a fit, and the error if the fit diverged."""

    best: Epoch
    divergence: Diverged | None


def train(
    table: Table,
    config: TrainConfig,
    device: torch.device,
    runs: Path,
    console: Console,
    *,
    request: TrainRequest | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = CHECKPOINT_INTERVAL_SECONDS,
    resume_command: str = "",
) -> Path:
    """Fit a network to the table, print the metrics, and return the folder of the run.

    With a request, which records how to load the table, the fit writes checkpoints, the last one
    when SIGINT ends it, or SIGTERM if the program handles it, as `python -m model` does; then it
    prints resume_command. With a checkpoint of the same table, config and request, the fit
    continues from it. Torch's settings are as before afterwards.

    Raises:
        DataError: the data or settings cannot be used, or the loss diverged in the first epoch.
        Diverged: the loss diverged later; the run of the best epoch is complete.
        OSError: the run cannot be written; no incomplete files remain.
    """
    data = prepare_table(table, config)
    for warning in data.warnings:
        console.print(f"warning: {warning}", style="yellow")
    # Stage the folder before the fit: a folder that cannot be written to is reported at once.
    with staged(runs, table.name) as folder:
        net, state, threads = _start_fit(data, config, device, checkpoint)
        writer = None
        if request:
            writer = CheckpointWriter(runs, table, request, config, threads, checkpoint_seconds)
            writer.progress = len(state.history), len(state.losses)
        with float32_arithmetic(threads), resumable(state, writer, resume_command, console):
            result = _fit(state, net, data, writer, console)
            measurement = measure(net.cpu().eval(), table, data.parts, data.target_statistics)
            record = _describe_run(state, data, result, measurement, str(device), threads)
            save_run(folder, record, net, table.x[data.parts["validation"][:MAX_SAVED_ROWS]])
            curves = plot_curves(state.history, result.best.number, f"{table.name}, loss")
            (folder / "curves.png").write_bytes(curves)
        with defer_signals():  # An interruption leaves either the checkpoint or the run.
            path = publish(folder)
            if writer:
                writer.path.unlink(missing_ok=True)
    console.print(
        f"best epoch {result.best.number} of {len(state.history)}, "
        f"validation loss {format_number(result.best.validation_loss)}"
    )
    console.print(metrics_table(record.metrics, record.baselines))
    for warning in measurement.warnings:
        console.print(f"warning: {warning}", style="yellow")
    if result.divergence:
        raise Diverged(f"{path} holds the best epoch, {result.best.number}: {result.divergence}")
    return path


def prepare_table(table: Table, config: TrainConfig) -> PreparedTable:
    """Split the table; compute the statistics of its training rows, and the warnings.

    Raises:
        DataError: a target varies too little for answers in float32.
    """
    parts = split(table, config.seed)
    rows = parts["train"]
    statistics, targets = column_statistics(table.x[rows]), None
    warnings = column_warnings(table, statistics)
    if not table.classes:
        targets = column_statistics(table.y[rows].astype(np.float64))
        check_targets(table.targets, targets)
        warnings += answer_warnings(table.targets, targets)
    return PreparedTable(table, parts, statistics, targets, tuple(warnings))


def _start_fit(
    data: PreparedTable, config: TrainConfig, device: torch.device, checkpoint: Checkpoint | None
) -> tuple[ScaledNet, FitState, int]:
    """Return the network, its fit state, and the number of threads."""
    with torch.random.fork_rng(devices=[]):  # restores the state of the global CPU generator
        torch.default_generator.manual_seed(config.seed)
        net = build_net(data.table, data.statistics, data.target_statistics, config.hidden_features)
    net = net.to(device)
    threads = thread_count(net.net, config.batch_size, max_threads())
    threads = checkpoint.threads if checkpoint else threads
    state = FitState(net.net, config, classification=bool(data.table.classes))
    if checkpoint:
        checkpoint.restore(state)
    return net, state, threads


def class_weights(table: Table, train: IntArray, config: TrainConfig) -> Tensor | None:
    """Return the weight of each class, (classes,) float32, or None if all are equal.

    Raises:
        DataError: the target has no classes, or their number differs from that of the weights.
    """
    if config.class_weights == "equal":
        return None
    if not table.classes:
        raise SettingError("class_weights", "a regression has no classes")
    if config.class_weights == "balanced":
        counts = np.bincount(table.y[train].astype(np.int64), minlength=len(table.classes))
        return torch.from_numpy((len(train) / (len(counts) * counts)).astype(np.float32))
    if len(config.class_weights) != len(table.classes):
        names = quote_names([str(value) for value in table.classes])
        expected = f"expected {len(table.classes)}, one for each of {names}"
        raise SettingError("class_weights", f"{expected}, found {len(config.class_weights)}")
    return torch.tensor(config.class_weights)


def _fit(
    state: FitState,
    net: ScaledNet,
    data: PreparedTable,
    writer: CheckpointWriter | None,
    console: Console,
) -> FitResult:
    """Standardise the rows and fit the network to them."""
    table, parts = data.table, data.parts
    rows = {part: standardise_rows(net, table, indices) for part, indices in parts.items()}
    weights = class_weights(table, parts["train"], state.config)
    weights = None if weights is None else weights.to(net.shift.device)
    divergence = run_to_end(state, rows, weights, writer, console)
    if state.best_epoch is None:
        raise divergence or DataError("no epoch has run")
    return FitResult(state.best_epoch, divergence)


def _describe_run(
    state: FitState,
    data: PreparedTable,
    result: FitResult,
    measurement: Measurement,
    device: str,
    threads: int,
) -> RunRecord:
    """Return the record of the run."""
    table = data.table
    versions = {name: metadata.version(name) for name in ("twolayernet", "torch", "numpy")}
    divergence = (str(result.divergence),) if result.divergence else ()
    return RunRecord(
        name=table.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=table.task,
        features=_features(table, data.statistics),
        targets=table.targets,
        classes=table.classes,
        config=state.config,
        device=device,
        threads=threads,
        rows={part: len(indices) for part, indices in data.parts.items()},
        best_epoch=result.best.number,
        history=tuple(state.history),
        metrics=measurement.metrics,
        baselines=measurement.baselines,
        notes=(
            *table.notes,
            *data.warnings,
            *measurement.warnings,
            *measurement.notes,
            *divergence,
        ),
        versions={"python": platform.python_version()} | versions,
        source=table.source,
    )


def _features(table: Table, statistics: ColumnStatistics) -> tuple[Feature, ...]:
    names = ("min", "max", "mean", "median", "std")
    values = zip(*(getattr(statistics, name).tolist() for name in names), strict=True)
    return tuple(
        Feature(name=name, kind=kind, **dict(zip(names, row, strict=True)))
        for name, kind, row in zip(table.features, table.kinds, values, strict=True)
    )
