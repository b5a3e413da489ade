"""From a Table to a complete run on disk: split, scale, fit, measure, save."""

import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from model import checkpoint, report
from model.checkpoint import Feature, RunRecord
from model.config import TrainConfig
from model.console import progress
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.staging import publish, staged
from model.table import DataError, Float32Array, FloatArray, IntArray, Statistics, Table, split, statistics, warnings
from model.train import CORES, Epoch, fit, threads

LOG_SECONDS = 10
"""Between the lines that tell a log how a long fit goes; a terminal has a bar."""


def train(table: Table, config: TrainConfig, device: torch.device, runs: Path, console: Console) -> Path:
    """Fit a network to the table, print how it went, and return the folder of the complete run.

    Raises:
        DataError: the loss diverged.
        OSError: the run cannot be written; nothing is left of it.
    """
    parts: Mapping[str, IntArray] = vars(split(table, config.seed))
    described = statistics(table.x[parts["train"]])
    warned = warnings(table, described)
    for line in warned:
        console.print(f"warning: {line}", style="yellow")

    with staged(runs, table.name) as folder:  # before the fit: a place that cannot be written to is said at once
        torch.manual_seed(config.seed)
        net = build(table, parts["train"], described, config.hidden_features).to(device)
        used = threads(net.net, config.batch_size, CORES)
        torch.set_num_threads(used)
        x = {part: net.standardise(torch.from_numpy(table.x[rows]).to(device)) for part, rows in parts.items()}
        y = {part: net.training_targets(torch.from_numpy(table.y[rows]).to(device)) for part, rows in parts.items()}
        history = _fit(net, (x["train"], y["train"]), (x["validation"], y["validation"]), config, console)
        best = min(history, key=lambda epoch: epoch.validation_loss)

        net = net.cpu().eval()
        metrics = {
            part: report.metrics(table, answers(net, table.x[rows]), table.y[rows]) for part, rows in parts.items()
        }
        baselines = report.baselines(
            table,
            (x["train"].cpu().numpy(), table.y[parts["train"]]),
            (x["test"].cpu().numpy(), table.y[parts["test"]]),
        )
        record = RunRecord(
            name=table.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            task=table.task,
            features=_features(table, described),
            targets=table.targets,
            classes=table.classes,
            config=config,
            device=str(device),
            threads=used,
            rows={part: len(rows) for part, rows in parts.items()},
            best_epoch=best.number,
            history=tuple(history),
            metrics=metrics,
            baselines=baselines,
            notes=(*table.notes, *warned),
            versions={"python": platform.python_version()}
            | {package: metadata.version(package) for package in ("twolayernet", "torch", "numpy")},
        )
        checkpoint.save(folder, record, net, table.x[parts["validation"]])
        (folder / "curves.png").write_bytes(report.curves(history, best.number, f"{table.name}, loss"))
        path = publish(folder)
    console.print(f"best epoch {best.number} of {len(history)}, validation loss {best.validation_loss:.4g}")
    console.print(report.layout(metrics, baselines))
    return path


def build(table: Table, train: IntArray, described: Statistics, hidden_features: int) -> ScaledNet:
    """Make an untrained network behind the scaling of the training rows (and of their targets).

    Raises:
        DataError: there is no memory for so many hidden features.
    """
    shape = len(table.features), hidden_features, table.out_features
    try:
        net = TwoLayerNet(*shape)
    except RuntimeError:  # torch's word for it
        raise DataError(f"hidden_features: no memory for a network of {' -> '.join(map(str, shape))}") from None
    shift, scale = _float32(described.mean), _float32(described.scale)
    if table.classes:
        return ScaledClassifier(net, shift, scale)
    targets = statistics(table.y[train].astype(np.float64))
    spread = np.where(targets.constant, 1.0, targets.std)
    return ScaledRegressor(net, shift, scale, _float32(spread), _float32(targets.mean))


def answers(net: ScaledNet, x: Float32Array) -> FloatArray:
    """Return probabilities (rows, classes), or predictions (rows, out_features), for raw rows x.

    Raises:
        DataError: an answer is infinite or not a number.
    """
    with torch.no_grad():
        out: Tensor | tuple[Tensor, Tensor, Tensor] = net(torch.from_numpy(x))
    found: FloatArray = (out[1] if isinstance(out, tuple) else out).double().numpy()
    if not np.isfinite(found).all():
        raise DataError("the network's answers leave float32's range: scale the columns of the data")
    return found


def _fit(
    net: ScaledNet,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    config: TrainConfig,
    console: Console,
) -> list[Epoch]:
    history = []
    said = time.monotonic()
    with progress(console) as bar:
        shown = bar.add_task("fit", total=config.epochs, note="")
        for epoch in fit(net.net, train, validation, config):
            history.append(epoch)
            note = f"validation loss {epoch.validation_loss:.4g}"
            bar.update(shown, advance=1, note=note)
            if not console.is_terminal and time.monotonic() - said >= LOG_SECONDS:
                said = time.monotonic()
                console.print(f"epoch {epoch.number} of {config.epochs}, {note}")
    return history


def _features(table: Table, described: Statistics) -> tuple[Feature, ...]:
    columns = ("min", "max", "mean", "median", "std")
    values = zip(*(getattr(described, column).tolist() for column in columns), strict=True)
    return tuple(
        Feature(name=name, kind=kind, **dict(zip(columns, row, strict=True)))
        for name, kind, row in zip(table.features, table.kinds, values, strict=True)
    )


def _float32(values: FloatArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
