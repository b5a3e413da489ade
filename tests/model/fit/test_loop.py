"""Tests of model.fit.loop: equality with a plain PyTorch loop, best epoch and divergence."""

import copy
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.config import TrainConfig
from model.errors import Diverged
from model.fit.batches import Rows, sequential_batches
from model.fit.loop import Epoch, FitState, learning_rates, mean_loss, run_epochs
from model.fit.step import Step, cross_entropy, squared_error
from model.net import TwoLayerNet


def regression(rows: int = 50, seed: int = 0, out_features: int = 1) -> Rows:
    """Make standardised rows, (rows, 3), and noisy linear targets, (rows, out_features)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    slope = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 1.0, 0.0], [0.5, 0.0, 1.0]])[:, :out_features]
    return x, x @ slope + 0.1 * torch.randn(rows, out_features, generator=generator)


def classification(rows: int = 50, seed: int = 0) -> Rows:
    """Make rows, (rows, 3), and their class indices 0 or 1, (rows,)."""
    x, y = regression(rows, seed)
    return x, (y[:, 0] > 0).long()


several_targets = functools.partial(regression, out_features=3)
OUT_FEATURES = {regression: 1, classification: 2, several_targets: 3}
ALL_TASKS = pytest.mark.parametrize("rows", OUT_FEATURES)


def new_net(rows: Any = regression) -> TwoLayerNet:
    """Make the same untrained network at every call, sized for the rows that `rows` makes."""
    torch.manual_seed(0)
    return TwoLayerNet(3, 8, OUT_FEATURES[rows])


def config(**changes: Any) -> TrainConfig:
    """Make the configuration of a short fit."""
    defaults = {"hidden_features": 8, "epochs": 5, "batch_size": 16, "learning_rate": 1e-2}
    return TrainConfig(**{**defaults, **changes})


def new_state(net: TwoLayerNet, rows: Rows, **changes: Any) -> FitState:
    """Return the state of a new fit to rows."""
    return FitState(net, config(**changes), classification=rows[1].dtype == torch.int64)


def equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Return whether all tensors are bitwise equal."""
    return all(torch.equal(left[name], right[name]) for name in left)


# Compared with a plain loop


def plain_loop(
    net: TwoLayerNet,
    train: Rows,
    validation: Rows,
    config: TrainConfig,
    weights: Tensor | None = None,
) -> list[Epoch]:
    """Return the history of a fit with autograd, torch.optim and the losses of torch."""
    (x, y), order = train, torch.Generator().manual_seed(config.seed)

    def loss_of(scores: Tensor, target: Tensor, reduction: str) -> Tensor:
        if target.dtype == torch.int64:
            return functional.cross_entropy(scores, target, weights, reduction=reduction)
        return functional.mse_loss(scores, target, reduction=reduction)

    optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    if config.weight_decay:
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
    steps = math.ceil(len(x) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * steps)
    total_weight = y.numel() if weights is None else float(weights[y].sum())
    history = []
    for number in range(1, config.epochs + 1):
        train_loss = 0.0
        for rows in torch.split(torch.randperm(len(x), generator=order), config.batch_size):
            loss = loss_of(net(x[rows]), y[rows], config.reduction)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # untyped in torch
            optimizer.step()
            if config.schedule == "cosine":
                schedule.step()
            share = len(rows) / len(x) if config.reduction == "mean" else 1 / total_weight
            train_loss += loss.item() * share
        with torch.no_grad():
            validation_loss = loss_of(net(validation[0]), validation[1], "mean").item()
        history.append(Epoch(number, train_loss, validation_loss))
    return history


VARIANTS: dict[str, tuple[dict[str, Any], tuple[float, float] | None]] = {
    "plain": ({}, None),
    "cosine": ({"schedule": "cosine"}, None),
    "weight decay": ({"weight_decay": 0.3}, None),
    "sum": ({"reduction": "sum"}, None),
    "single rows": ({"batch_size": 1}, None),
    "class weights": ({}, (0.25, 3.0)),
    "all": ({"reduction": "sum", "weight_decay": 0.1, "schedule": "cosine"}, (0.25, 3.0)),
}
"""Changes to the configuration, and class weights, which a regression ignores."""


@ALL_TASKS
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("float64")
def test_losses_equal_a_plain_loop(variant: str, rows: Any) -> None:
    """In float64 the losses of 20 epochs equal plain_loop's within a relative error of 1e-11."""
    changes, explicit = VARIANTS[variant]
    weights = torch.tensor(explicit) if explicit and rows is classification else None
    variant_config = config(epochs=20, **changes)
    expected = plain_loop(new_net(rows), rows(), rows(20, 1), variant_config, weights)
    state = FitState(new_net(rows), variant_config, classification=rows is classification)
    expected_losses, losses = (
        torch.tensor([dataclasses.astuple(epoch) for epoch in history], dtype=torch.float64)
        for history in (expected, run_epochs(state, rows(), rows(20, 1), weights))
    )
    assert losses[-1, 1] < 0.9 * losses[0, 1], "the loss should have decreased"
    torch.testing.assert_close(losses, expected_losses, rtol=1e-11, atol=0)


def loss_of(net: TwoLayerNet, rows: Rows, weights: Tensor | None = None, size: int = 99) -> float:
    """Return mean_loss() of the rows in batches of `size` rows."""
    loss = cross_entropy if rows[1].dtype == torch.int64 else squared_error
    batches = sequential_batches(rows, net.linear2.out_features, size, weights)
    return mean_loss(Step(copy.deepcopy(net), loss), batches)


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
@pytest.mark.parametrize("explicit", [None, (0.25, 3.0)])
@ALL_TASKS
@pytest.mark.usefixtures("float64")
def test_mean_loss_in_slices(rows: Any, explicit: tuple[float, float] | None, size: int) -> None:
    """For any batch size, mean_loss() equals the loss of torch over all rows."""
    (x, y), net = rows(), new_net(rows)
    weights = torch.tensor(explicit) if explicit and rows is classification else None
    with torch.no_grad():
        expected = (
            functional.mse_loss(net(x), y)
            if y.dtype != torch.int64
            else functional.cross_entropy(net(x), y, weights)
        )
    assert pytest.approx(expected.item(), rel=1e-12) == loss_of(net, (x, y), weights, size)


def test_learning_rates() -> None:
    """A cosine schedule falls from the full rate to half of it midway, and to 0 at the end."""
    constant, cosine = config(epochs=10), config(epochs=10, schedule="cosine")
    assert [1e-2] * 3 == learning_rates(constant, 7, 3, 4)
    rates = learning_rates(cosine, 0, 41, 4)
    assert 1e-2 == rates[0]
    assert pytest.approx(0.5e-2, rel=1e-12) == rates[20]
    assert pytest.approx(1e-2 * (1 - math.cos(math.pi / 40)) / 2, rel=1e-9) == rates[39]
    assert 0 == rates[40]
    assert rates[5:12] == learning_rates(cosine, 5, 7, 4)
    assert sorted(rates, reverse=True) == rates


# The best epoch


def overfitting() -> tuple[TwoLayerNet, Rows, Rows]:
    """Make a fit whose validation loss soon rises, as its targets have the opposite sign."""
    x, y = regression(8)
    return new_net(), (x, y), (x, -y)


@pytest.mark.parametrize("stop_after", [4, 20])
def test_best_epoch_is_restored(stop_after: int) -> None:
    """At the end, or if the caller stops early, the network has the best epoch's weights."""
    net, train, validation = overfitting()
    history, weights = [], []
    epochs = run_epochs(new_state(net, train, epochs=20), train, validation)
    for epoch in itertools.islice(epochs, stop_after):
        history.append(epoch)
        weights.append(copy.deepcopy(net.state_dict()))
    epochs.close()  # type: ignore[attr-defined] # run_epochs is a generator
    best = min(range(stop_after), key=lambda index: history[index].validation_loss)
    assert best < stop_after - 1, "the fit should have overfitted"
    assert equal(weights[best], net.state_dict())
    assert history[best].validation_loss == loss_of(net, validation)


@pytest.mark.parametrize("patience", [1, 3, 10])
def test_patience(patience: int) -> None:
    """The fit stops `patience` epochs after the best one, with an unchanged history until then."""
    net, train, validation = overfitting()
    whole = list(run_epochs(new_state(net, train, epochs=40, batch_size=3), train, validation))
    best, waited, expected = math.inf, 0, list[Epoch]()
    while waited < patience:
        expected.append(whole[len(expected)])
        waited = 0 if expected[-1].validation_loss < best else waited + 1
        best = min(best, expected[-1].validation_loss)
    net, train, validation = overfitting()
    state = new_state(net, train, epochs=40, batch_size=3, patience=patience)
    assert expected == list(run_epochs(state, train, validation))
    assert len(expected) < 40, "the fit should have stopped early"
    assert best == loss_of(net, validation)


def test_equal_loss_is_not_better() -> None:
    """Among epochs with equal losses, the first is the best one."""
    train, validation = regression(), regression(20, 1)
    state = new_state(new_net(), train, epochs=40, patience=4, learning_rate=1e-30)
    assert 5 == len(list(run_epochs(state, train, validation)))
    assert 1 == (state.best_epoch and state.best_epoch.number)


# Divergence

TOO_LARGE = "the learning rate is too large: try a smaller one"
OUTLIER = "a feature lies 1e+30 standard deviations off its mean: look for outliers"


def with_outlier(rows: Rows) -> Rows:
    """Set one value of the rows to -1e30, and return the rows."""
    rows[0][7, 1] = -1e30
    return rows


TRAIN, VALIDATION = regression(), regression(20, 1)


RATE, ONE_BATCH = {"learning_rate": 1e15}, {"batch_size": 50}
FAR_TRAIN, FAR_VALIDATION = with_outlier(regression()), with_outlier(regression(20, 1))


@pytest.mark.parametrize(
    ("train", "validation", "changes", "position", "cause"),
    [
        (TRAIN, VALIDATION, RATE, "step 2 (epoch 1), learning rate 1e+15", TOO_LARGE),
        # The loss of the only step precedes its update, so only the validation loss diverges.
        (TRAIN, VALIDATION, RATE | ONE_BATCH, "step 1 (epoch 1), learning rate 1e+15", TOO_LARGE),
        (FAR_TRAIN, VALIDATION, ONE_BATCH, "step 1 (epoch 1), learning rate 0.01", OUTLIER),
        (TRAIN, FAR_VALIDATION, {}, "step 4 (epoch 1), learning rate 0.01", OUTLIER),
    ],
    ids=["train", "validation", "train outlier", "validation outlier"],
)
def test_divergence(
    train: Rows, validation: Rows, changes: dict[str, Any], position: str, cause: str
) -> None:
    """The error gives step, epoch, rate and likely cause; the network keeps its weights."""
    net, expected = new_net(), f"the loss is inf at {position}: probably {cause}"
    with pytest.raises(Diverged, match=f"^{re.escape(expected)}$"):
        list(run_epochs(new_state(net, train, **changes), train, validation))
    assert equal(new_net().state_dict(), net.state_dict())
