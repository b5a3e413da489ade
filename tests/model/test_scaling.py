"""Tests of model.scaling: standardised rows, predictions, and their errors."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from model.errors import DataError
from model.net import ScaledNet
from model.scaling import build_net, predict_rows, standardise_rows
from model.table.column_statistics import column_statistics
from model.table.dataset import Table
from tests.model.tables import CLASSES, make_table

TRAIN = np.arange(64)


def untrained(table: Table) -> ScaledNet:
    """Return an untrained network, scaled by the first 64 rows."""
    targets = None if table.classes else column_statistics(table.y[TRAIN].astype(np.float64))
    return build_net(table, column_statistics(table.x[TRAIN]), targets, 8)


@pytest.mark.parametrize("scale", [1.0, 1e-41])
def test_training_rows_are_standardised(scale: float) -> None:
    """Training rows get mean 0 and deviation 1; constant or subnormal columns become 0."""
    table = make_table()
    table.x[:, 3] *= scale
    x, y = standardise_rows(untrained(table), table, TRAIN)
    np.testing.assert_allclose(x.double().numpy().mean(axis=0), 0, atol=1e-4)
    expected = [1, 0, 1, 1 if scale == 1 else 0]
    np.testing.assert_allclose(x.double().numpy().std(axis=0), expected, rtol=1e-5)
    np.testing.assert_allclose([y.double().mean(), y.double().std(correction=0)], [0, 1], atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0, 1e-30), (1.7e9, 600), (-1e18, 1e12), (1e5, 0.01)])
def test_targets_are_standardised_in_float64(mean: float, std: float) -> None:
    """Targets get deviation 1 and a mean near 0, whatever their mean and their spread."""
    y = mean + std * np.random.default_rng(0).normal(size=(100, 1))
    table = dataclasses.replace(make_table(), y=y)
    targets = standardise_rows(untrained(table), table, TRAIN)[1].double().numpy()
    assert pytest.approx(1, rel=1e-5) == targets.std()
    offset = abs(np.float32(y[TRAIN].mean()) - y[TRAIN].mean()) / y[TRAIN].std()
    assert abs(targets.mean()) <= offset + 1e-3


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_slices_equal_the_whole(monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]) -> None:
    """Results do not depend on the slice size, and are in the order of the indices."""
    table, indices = make_table(classes), np.random.default_rng(0).permutation(100)[:37]
    net = untrained(table)
    with torch.no_grad():
        x = net.standardise(torch.from_numpy(table.x))[indices]
        outputs = net(torch.from_numpy(table.x))
        predictions = (outputs[1] if classes else outputs).double().numpy()[indices]
        targets = net.training_targets(torch.from_numpy(table.y))[indices]
    for slice_values in (1, 4 * 10, 12 * 10, 1 << 22):  # from one row to all
        monkeypatch.setattr("model.scaling.MAX_SLICE_VALUES", slice_values)
        rows = standardise_rows(net, table, indices)
        assert torch.equal(x, rows[0])
        assert torch.equal(targets, rows[1])
        actual = predict_rows(net, table.x, indices)
        np.testing.assert_allclose(predictions, actual, rtol=1e-5, atol=1e-6)


def test_target_that_overflows() -> None:
    """A target far outside a tiny spread of the training rows is an error that names it."""
    table = make_table()
    table.y[:64] = 1e-25 * table.y[:64]
    table.y[99] = 1e18
    expected = "target 'price €': an outlier leaves float32's range when it is standardised"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        standardise_rows(untrained(table), table, np.arange(90, 100))


def test_predictions_that_are_not_finite() -> None:
    """An infinite prediction raises an error that suggests scaling the data."""
    table = make_table()
    net = untrained(table)
    net.output_scale.fill_(3e38)  # type: ignore[operator] # a buffer of the regressor
    expected = "the predictions leave float32's range: scale the columns of the data"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        predict_rows(net, table.x * 100, np.arange(10))


def test_network_that_does_not_fit_into_memory() -> None:
    """If the network exceeds the address space, the error gives the sizes of its layers."""
    table = make_table()
    expected = f"hidden_features: no memory for a network of 4 -> {2**46} -> 1"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        build_net(table, column_statistics(table.x), None, 2**46)
