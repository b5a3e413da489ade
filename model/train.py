"""From a Table to a complete run on disk: split, scale, fit, measure, save."""

import platform
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from cli.progress import progress_bar
from cli.staging import publish, staged
from model import report, run
from model.config import CHECKPOINT_INTERVAL_SECONDS, TrainConfig
from model.errors import DataError, Diverged
from model.fit.batches import Rows
from model.fit.checkpoint import Checkpoint, CheckpointWriter, TrainRequest
from model.fit.devices import CORES, thread_count
from model.fit.loop import MAX_SLICE_VALUES, FitState, run_epochs
from model.metrics import baseline_metrics, compute_metrics
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.run import Feature, RunRecord
from model.table.column_statistics import ColumnStatistics, column_statistics, column_warnings
from model.table.dataset import Float32Array, FloatArray, IntArray, Table
from model.table.split import split
from tabular.names import quote_names

LOG_INTERVAL_SECONDS = 10
"""Between the lines that tell a log how a long fit goes; a terminal has a bar."""


def train(
    table: Table,
    config: TrainConfig,
    device: torch.device,
    runs: Path,
    console: Console,
    *,
    request: TrainRequest | None = None,
    unfinished: Checkpoint | None = None,
    save_seconds: float = CHECKPOINT_INTERVAL_SECONDS,
) -> Path:
    """Fit a network to the table, print how it went, and return the folder of the complete run.

    Args:
        table: the rows.
        config: what a person chose about the fit.
        device: where it runs.
        runs: the folder that holds runs/<name>/<n>.
        console: where to print.
        request: what --resume needs to load the table again; without it an unfinished fit is not kept.
        unfinished: the fit to go on with, begun with this table, config and request.
        save_seconds: between two saves of the unfinished fit.

    Raises:
        DataError: the data or settings cannot be used, or the loss diverged in the first epoch.
        Diverged: the loss diverged later; the run of the best epoch is complete.
        OSError: the run cannot be written; nothing is left of it.
    """
    parts: Mapping[str, IntArray] = vars(split(table, config.seed))
    described = column_statistics(table.x[parts["train"]])
    warned = column_warnings(table, described)
    for line in warned:
        console.print(f"warning: {line}", style="yellow")

    with staged(
        runs, table.name
    ) as folder:  # before the fit: a place that cannot be written to is said at once
        torch.manual_seed(config.seed)
        net = build_net(table, parts["train"], described, config.hidden_features).to(device)
        used = unfinished.threads if unfinished else thread_count(net.net, config.batch_size, CORES)
        torch.set_num_threads(used)
        rows = {part: standardise_rows(net, table, indices) for part, indices in parts.items()}
        weights = class_weights(table, parts["train"], config)
        weights = None if weights is None else weights.to(device)
        state = FitState(net.net, config, classification=bool(table.classes))
        keeper = (
            CheckpointWriter(runs, table, request, config, used, save_seconds) if request else None
        )
        if unfinished:
            unfinished.restore(state)
            if keeper:
                keeper.epochs = len(unfinished.history)
        diverged = _fit(state, rows["train"], rows["validation"], weights, keeper, console)
        best = state.best_epoch
        if best is None:
            raise diverged or DataError("no epoch was done")

        baselines = baseline_metrics(
            table,
            (rows["train"][0].cpu().numpy(), table.y[parts["train"]]),
            (rows["test"][0].cpu().numpy(), table.y[parts["test"]]),
        )
        del rows  # before the answers take their place
        net = net.cpu().eval()
        metrics = {
            part: compute_metrics(table, predict_rows(net, table.x, indices), table.y[indices])
            for part, indices in parts.items()
        }
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
            rows={part: len(indices) for part, indices in parts.items()},
            best_epoch=best.number,
            history=tuple(state.history),
            metrics=metrics,
            baselines=baselines,
            notes=(*table.notes, *warned, *([str(diverged)] if diverged else [])),
            versions={"python": platform.python_version()}
            | {package: metadata.version(package) for package in ("twolayernet", "torch", "numpy")},
        )
        run.save_run(folder, record, net, table.x[parts["validation"][: run.MAX_KEPT_ROWS]])
        (folder / "curves.png").write_bytes(
            report.plot_curves(state.history, best.number, f"{table.name}, loss")
        )
        path = publish(folder)
    if keeper:
        keeper.forget()
    console.print(
        f"best epoch {best.number} of {len(state.history)}, validation loss {best.validation_loss:.4g}"
    )
    console.print(report.metrics_table(metrics, baselines))
    if diverged:
        raise Diverged(f"{path} holds the best epoch, {best.number}: {diverged}")
    return path


def build_net(
    table: Table, train: IntArray, described: ColumnStatistics, hidden_features: int
) -> ScaledNet:
    """Make an untrained network behind the scaling of the training rows (and of their targets).

    Raises:
        DataError: there is no memory for so many hidden features.
    """
    shape = len(table.features), hidden_features, table.out_features
    try:
        net = TwoLayerNet(*shape)
    except RuntimeError:  # torch's word for it
        raise DataError(
            f"hidden_features: no memory for a network of {' -> '.join(map(str, shape))}"
        ) from None
    shift, scale = _float32(described.mean), _float32(described.scale)
    if table.classes:
        return ScaledClassifier(net, shift, scale)
    targets = column_statistics(table.y[train].astype(np.float64))
    spread = np.where(targets.constant, 1.0, targets.std)
    return ScaledRegressor(net, shift, scale, _float32(spread), _float32(targets.mean))


def standardise_rows(net: ScaledNet, table: Table, indices: IntArray) -> Rows:
    """Return the chosen rows as the net inside is trained on them, on the net's device.

    A slice at a time: of the largest tables there is no third copy.

    Raises:
        DataError: a value leaves float32's range.
    """
    device, width = net.shift.device, len(table.features)
    x = torch.empty(len(indices), width, device=device)
    for some in _slices(len(indices), width):
        x[some] = net.standardise(torch.from_numpy(table.x[indices[some]]).to(device))
        finite = x[some].isfinite().all(dim=0)
        if not finite.all():
            name = table.features[int(finite.logical_not().nonzero()[0])]
            raise DataError(
                f"column '{name}': an outlier that leaves float32's range when it is standardised"
            )
    return x, net.training_targets(torch.from_numpy(table.y[indices]).to(device))


def class_weights(table: Table, train: IntArray, config: TrainConfig) -> Tensor | None:
    """Return what each class counts, (classes,) float32; None where all count alike.

    Raises:
        DataError: weights are asked for where there are no classes, or there are not as many as classes.
    """
    if config.class_weights == "equal":
        return None
    if not table.classes:
        raise DataError("class_weights: a regression has no classes")
    if config.class_weights == "balanced":
        counts = np.bincount(table.y[train].astype(np.int64), minlength=len(table.classes))
        return _float32(len(train) / (len(counts) * counts))
    if len(config.class_weights) != len(table.classes):
        raise DataError(
            f"class_weights: expected {len(table.classes)}, one for each of {quote_names([str(c) for c in table.classes])}, "
            f"found {len(config.class_weights)}"
        )
    return torch.tensor(config.class_weights)


def predict_rows(net: ScaledNet, x: Float32Array, indices: IntArray) -> FloatArray:
    """Return probabilities (rows, classes), or predictions (rows, out_features), for the chosen rows of raw x.

    Raises:
        DataError: an answer is infinite or not a number.
    """
    found = []
    with torch.no_grad():
        for some in _slices(len(indices), x.shape[1] + net.net.linear1.out_features):
            out: Tensor | tuple[Tensor, Tensor, Tensor] = net(torch.from_numpy(x[indices[some]]))
            found.append((out[1] if isinstance(out, tuple) else out).double().numpy())
    together: FloatArray = np.concatenate(found)
    if not np.isfinite(together).all():
        raise DataError(
            "the network's answers leave float32's range: scale the columns of the data"
        )
    return together


def _fit(
    state: FitState,
    train: Rows,
    validation: Rows,
    weights: Tensor | None,
    keeper: CheckpointWriter | None,
    console: Console,
) -> Diverged | None:
    """Run the fit to its end, saving and saying how it goes; return what ended it early, if the loss did."""
    said = saved = time.monotonic()
    with progress_bar(console) as bar:
        shown = bar.add_task(
            "fit", total=state.config.epochs, completed=len(state.history), note=""
        )
        try:
            for epoch in run_epochs(state, train, validation, weights):
                note = f"validation loss {epoch.validation_loss:.4g}"
                bar.update(shown, advance=1, note=note)
                now = time.monotonic()
                if not console.is_terminal and now - said >= LOG_INTERVAL_SECONDS:
                    said = now
                    console.print(f"epoch {epoch.number} of {state.config.epochs}, {note}")
                if keeper and now - saved >= keeper.seconds:
                    keeper.save(state)
                    saved = time.monotonic()
        except Diverged as error:
            return error
        except BaseException:
            if keeper and keeper.epochs:
                console.print(
                    f"{keeper.path}: the fit after epoch {keeper.epochs}; --resume goes on with it"
                )
            raise
    return None


def _slices(rows: int, width: int) -> Iterator[slice]:
    """Cut rows of `width` float32 values into slices that are small against a large table."""
    size = max(1, MAX_SLICE_VALUES // width)
    return (slice(start, start + size) for start in range(0, rows, size))


def _features(table: Table, described: ColumnStatistics) -> tuple[Feature, ...]:
    columns = ("min", "max", "mean", "median", "std")
    values = zip(*(getattr(described, column).tolist() for column in columns), strict=True)
    return tuple(
        Feature(name=name, kind=kind, **dict(zip(columns, row, strict=True)))
        for name, kind, row in zip(table.features, table.kinds, values, strict=True)
    )


def _float32(values: FloatArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
