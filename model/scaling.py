"""Build the ScaledNet of a table, standardise the table's rows, and predict from them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from model.errors import DataError, SettingError
from model.fit.batches import Rows
from model.fit.loop import MAX_SLICE_VALUES
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.table.column_statistics import ColumnStatistics
from model.table.dataset import Float32Array, FloatArray, IntArray, Table


def build_net(
    table: Table,
    features: ColumnStatistics,
    targets: ColumnStatistics | None,
    hidden_features: int,
) -> ScaledNet:
    """Return an untrained network, scaled by statistics of the training rows.

    Args:
        table: the table, for the names and the widths of the layers.
        features: statistics of the features.
        targets: statistics of the targets; None for a classification.
        hidden_features: width of the hidden layer.

    Raises:
        DataError: the network does not fit into memory.
    """
    shape = len(table.features), hidden_features, table.out_features
    try:
        net = TwoLayerNet(*shape)
    except RuntimeError:  # torch has no narrower error for a failed allocation
        sizes = " -> ".join(map(str, shape))
        raise SettingError("hidden_features", f"no memory for a network of {sizes}") from None
    shift, scale = _float32(features.mean), _float32(features.scale)
    if targets is None:
        return ScaledClassifier(net, shift, scale)
    # Targets are float64 until they are standardised, so any spread that varies can be used.
    varying = (targets.min < targets.max) & (targets.std > np.finfo(np.float32).tiny)
    spread = np.where(varying, targets.std, 1.0)
    return ScaledRegressor(net, shift, scale, _float32(spread), _float32(targets.mean))


def standardise_rows(net: ScaledNet, table: Table, indices: IntArray) -> Rows:
    """Return the standardised rows at indices, and their targets for the loss, on net's device.

    Raises:
        DataError: a standardised value leaves float32's range.
    """
    device, width = net.shift.device, len(table.features)
    x = torch.empty(len(indices), width, device=device)
    # Slices keep a large table from being in memory three times.
    for rows in _slices(len(indices), width):
        x[rows] = net.standardise(torch.from_numpy(table.x[indices[rows]]).to(device))
        _require_finite(x[rows], "column", table.features)
    y = net.training_targets(torch.from_numpy(table.y[indices]).to(device))
    if not table.classes:
        _require_finite(y.square(), "target", table.targets)
    return x, y


def _require_finite(values: Tensor, kind: str, names: Sequence[str]) -> None:
    """Raise a DataError for the first column of values, (rows, columns), with an infinite value."""
    finite = values.isfinite().all(dim=0)
    if not finite.all():
        where = f"{kind} '{names[int(finite.logical_not().nonzero()[0])]}'"
        raise DataError(f"{where}: an outlier leaves float32's range when it is standardised")


def predict_rows(net: ScaledNet, x: Float32Array, indices: IntArray) -> FloatArray:
    """Return predictions or probabilities, (rows, out_features), for the rows of raw x at indices.

    Raises:
        DataError: a prediction is infinite or NaN.
    """
    slices = []
    with torch.no_grad():
        for rows in _slices(len(indices), x.shape[1] + net.net.linear1.out_features):
            out: Tensor | tuple[Tensor, Tensor, Tensor] = net(torch.from_numpy(x[indices[rows]]))
            slices.append((out[1] if isinstance(out, tuple) else out).double().numpy())
    predictions: FloatArray = np.concatenate(slices)
    if not np.isfinite(predictions).all():
        raise DataError("the predictions leave float32's range: scale the columns of the data")
    return predictions


def _slices(rows: int, width: int) -> Iterator[slice]:
    """Split rows of `width` values into slices of at most MAX_SLICE_VALUES values."""
    size = max(1, MAX_SLICE_VALUES // width)
    return (slice(start, start + size) for start in range(0, rows, size))


def _float32(values: FloatArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
