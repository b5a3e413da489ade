"""model.train: the device, the threads, and the one loop, held to a plain PyTorch one."""

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.config import TrainConfig
from model.errors import DataError, Diverged
from model.fit.batches import Rows, sequential_batches
from model.fit.devices import PRODUCTS_PER_THREAD, find_device, thread_count
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
    """Make rows, (rows, 3), and the class of each, (rows,), of two."""
    x, y = regression(rows, seed)
    return x, (y[:, 0] > 0).long()


def fresh(out_features: int = 1) -> TwoLayerNet:
    """Make the same untrained network at every call."""
    torch.manual_seed(0)
    return TwoLayerNet(3, 8, out_features)


def config(**changes: Any) -> TrainConfig:
    """Make a quick configuration."""
    return TrainConfig(
        **{"hidden_features": 8, "epochs": 5, "batch_size": 16, "learning_rate": 1e-2, **changes}
    )


def begun(net: TwoLayerNet, rows: Rows, **changes: Any) -> FitState:
    """Begin a fit to rows."""
    return FitState(net, config(**changes), classification=rows[1].dtype == torch.int64)


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether every tensor is the same, bit for bit."""
    return all(torch.equal(left[name], right[name]) for name in left)


def test_cuda_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is used, or refused; auto takes what there is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = "device: cuda was asked for, and this PyTorch finds no CUDA device (use auto or cpu)"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        find_device("cuda")
    assert torch.device("cpu") == find_device("auto") == find_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch.device("cuda") == find_device("auto")
    assert torch.device("cpu") == find_device("cpu")


@pytest.mark.parametrize(
    ("hidden_features", "batch_size", "most", "expected"),
    [(100, 64, 8, 1), (1, 1, 1, 1), (1000, 64, 8, 4), (1000, 64, 2, 2), (1000, 6400, 8, 8)],
)
def test_threads_grow_with_the_step(
    hidden_features: int, batch_size: int, most: int, expected: int
) -> None:
    """One for a small step; then one for each PRODUCTS_PER_THREAD multiplications, as far as there are cores."""
    net = TwoLayerNet(990, hidden_features, 10)
    assert expected == thread_count(net, batch_size, most)
    assert (expected - 1) * PRODUCTS_PER_THREAD <= 1000 * hidden_features * batch_size


BOTH = pytest.mark.parametrize("rows", [regression, classification])


@BOTH
def test_same_seed_same_bits(rows: Any) -> None:
    """The same configuration gives the same history and weights; another seed another order of rows."""
    fits = []
    for seed in (0, 0, 1):
        net = fresh(2 if rows is classification else 1)
        fits.append(
            (list(run_epochs(begun(net, rows(), seed=seed), rows(), rows(20, 1))), net.state_dict())
        )
    assert fits[0][0] == fits[1][0]
    assert same(fits[0][1], fits[1][1])
    assert not same(fits[0][1], fits[2][1])


def test_fit_does_not_use_the_global_generator() -> None:
    """The order of the rows depends on the seed alone, whatever else draws random numbers."""
    expected, net = fresh(), fresh()
    list(run_epochs(begun(expected, regression()), regression(), regression(20, 1)))
    for _ in run_epochs(begun(net, regression()), regression(), regression(20, 1)):
        torch.rand(7)
    assert same(expected.state_dict(), net.state_dict())


def test_first_step_is_adams() -> None:
    """One full batch moves each weight by lr g / (|g| + eps), the first step of Adam (Kingma and Ba, algorithm 1)."""
    net, (x, y) = fresh(), regression()
    error = functional.mse_loss(net(x), y)
    gradients = torch.autograd.grad(error, list(net.parameters()))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    (epoch,) = run_epochs(begun(net, (x, y), epochs=1, batch_size=50), (x, y), (x, y))
    assert pytest.approx(error.item()) == epoch.train_loss
    for start, gradient, parameter in zip(before, gradients, net.parameters(), strict=True):
        torch.testing.assert_close(
            start - 1e-2 * gradient / (gradient.abs() + 1e-8), parameter.detach()
        )


# Against a plain loop


def plain(
    net: TwoLayerNet,
    train: Rows,
    validation: Rows,
    config: TrainConfig,
    weights: Tensor | None = None,
) -> list[Epoch]:
    """Fit as people write it: nn.Module, autograd, torch.optim, a scheduler, and F's losses with their reductions."""
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
    counted = y.numel() if weights is None else float(weights[y].sum())
    history = []
    for number in range(1, config.epochs + 1):
        total = 0.0
        for rows in torch.split(torch.randperm(len(x), generator=order), config.batch_size):
            loss = loss_of(net(x[rows]), y[rows], config.reduction)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's
            optimizer.step()
            if config.schedule == "cosine":
                schedule.step()
            total += loss.item() * (
                len(rows) / len(x) if config.reduction == "mean" else 1 / counted
            )
        with torch.no_grad():
            history.append(
                Epoch(number, total, loss_of(net(validation[0]), validation[1], "mean").item())
            )
    return history


def check_history(expected: list[Epoch], found: list[Epoch], rtol: float) -> None:
    """Assert that two histories agree to a relative bound."""
    curves = [
        torch.tensor(
            [(epoch.number, epoch.train_loss, epoch.validation_loss) for epoch in history],
            dtype=torch.float64,
        )
        for history in (expected, found)
    ]
    assert curves[0][-1, 1] < 0.9 * curves[0][0, 1], "something should have been learnt"
    torch.testing.assert_close(*curves, rtol=rtol, atol=0)


VARIANTS: dict[str, tuple[dict[str, Any], tuple[float, float] | None]] = {
    "plain": ({}, None),
    "cosine": ({"schedule": "cosine"}, None),
    "weight decay": ({"weight_decay": 0.3}, None),
    "sum": ({"reduction": "sum"}, None),
    "single rows": ({"batch_size": 1}, None),
    "class weights": ({}, (0.25, 3.0)),
    "sum with class weights": ({"reduction": "sum"}, (0.25, 3.0)),
    "all": (
        {"reduction": "sum", "weight_decay": 0.1, "schedule": "cosine", "seed": 3},
        (0.25, 3.0),
    ),
}
"""Changes to the configuration, and class weights, which a regression leaves out."""


@BOTH
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("float64")
def test_losses_are_a_plain_loops(variant: str, rows: Any) -> None:
    """In float64 both losses of 20 epochs are those of an ordinary PyTorch loop, to a relative 1e-11."""
    changes, explicit = VARIANTS[variant]
    weights = torch.tensor(explicit) if explicit and rows is classification else None
    out_features = 2 if rows is classification else 1
    chosen = config(epochs=20, **changes)
    expected = plain(fresh(out_features), rows(), rows(20, 1), chosen, weights)
    state = FitState(fresh(out_features), chosen, classification=rows is classification)
    check_history(expected, list(run_epochs(state, rows(), rows(20, 1), weights)), 1e-11)


@BOTH
def test_losses_are_a_plain_loops_in_float32(rows: Any) -> None:
    """Likewise in float32 to a relative 1e-5.

    A gradient is off by the rounding of sums of at most 16 terms, about 1e-6 of itself; Adam passes that on times its
    rate of 0.01, and 80 steps add it up to about 1e-6 of weights near 1.
    """
    out_features = 2 if rows is classification else 1
    expected = plain(fresh(out_features), rows(), rows(20, 1), config(epochs=20))
    found = run_epochs(begun(fresh(out_features), rows(), epochs=20), rows(), rows(20, 1))
    check_history(expected, list(found), 1e-5)


@pytest.mark.usefixtures("float64")
def test_several_targets_are_a_plain_loops() -> None:
    """The loss is the mean over all elements, as F.mse_loss's."""
    train, validation = regression(50, 0, 3), regression(20, 1, 3)
    expected = plain(fresh(3), train, validation, config(epochs=20))
    check_history(
        expected, list(run_epochs(begun(fresh(3), train, epochs=20), train, validation)), 1e-11
    )


@pytest.mark.parametrize("batch_size", [1, 16, 49, 50, 1000])
def test_train_loss_is_the_mean_over_rows(batch_size: int) -> None:
    """Where the weights stand still, it is the loss over all rows, also with an uneven last batch."""
    net = fresh()
    x, y = regression()
    (epoch,) = run_epochs(
        begun(net, (x, y), epochs=1, batch_size=batch_size, learning_rate=1e-30),
        (x, y),
        regression(20, 1),
    )
    expected = functional.mse_loss(net(x), y).item()
    assert pytest.approx(expected, rel=1e-5) == epoch.train_loss


def test_history_is_numbered_and_learns() -> None:
    """Each epoch comes once, and a linear problem is learnt almost to its noise."""
    history = list(
        run_epochs(begun(fresh(), regression(200), epochs=60), regression(200), regression(50, 1))
    )
    assert list(range(1, 61)) == [epoch.number for epoch in history]
    assert history[-1].train_loss < 0.03 < 1 < history[0].train_loss


def held_out(
    net: TwoLayerNet, rows: Rows, weights: Tensor | None = None, size: int = 1 << 19
) -> float:
    """Return the loss of rows by the engine, so many at a time."""
    step = Step(
        copy.deepcopy(net), cross_entropy if rows[1].dtype == torch.int64 else squared_error
    )
    return mean_loss(step, sequential_batches(rows, net.linear2.out_features, size, weights))


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
@pytest.mark.parametrize("weights", [None, (0.25, 3.0)])
@BOTH
@pytest.mark.usefixtures("float64")
def test_mean_loss_in_slices(rows: Any, weights: tuple[float, float] | None, size: int) -> None:
    """However few rows are computed at once, it is torch's own mean over all."""
    x, y = rows()
    net = fresh(2 if rows is classification else 1)
    with torch.no_grad():
        if rows is regression:
            expected, found = functional.mse_loss(net(x), y), held_out(net, (x, y), None, size)
        else:
            given = None if weights is None else torch.tensor(weights)
            expected, found = (
                functional.cross_entropy(net(x), y, given),
                held_out(net, (x, y), given, size),
            )
    assert pytest.approx(expected.item(), rel=1e-12) == found


# The learning rate


def test_rate() -> None:
    """Constant, or half a cosine wave: the whole rate at the first step, half of it midway, nearly 0 at the last."""
    constant, cosine = config(epochs=10), config(epochs=10, schedule="cosine")
    assert [1e-2] * 3 == learning_rates(constant, 7, 3, 4)
    falling = learning_rates(cosine, 0, 41, 4)
    assert 1e-2 == falling[0]
    assert pytest.approx(0.5e-2, rel=1e-12) == falling[20]
    assert pytest.approx(1e-2 * (1 - math.cos(math.pi / 40)) / 2, rel=1e-9) == falling[39]
    assert 0 == falling[40]
    assert falling[5:12] == learning_rates(cosine, 5, 7, 4)
    assert sorted(falling, reverse=True) == falling


# The best epoch


def overfitting() -> tuple[TwoLayerNet, Rows, Rows]:
    """Make a fit whose validation loss soon rises: few rows, and validation targets of the other sign."""
    x, y = regression(8)
    return fresh(), (x, y), (x, -y)


@pytest.mark.parametrize("stop_after", [4, 20])
def test_best_epoch_is_restored(stop_after: int) -> None:
    """At the end, and where the consumer stops early, net holds the weights of the lowest validation loss."""
    net, train, validation = overfitting()
    history, seen = [], []
    fitting = run_epochs(begun(net, train, epochs=20), train, validation)
    for epoch in fitting:
        history.append(epoch)
        seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        if len(history) == stop_after:
            break
    fitting.close()  # type: ignore[attr-defined] # as leaving the loop does, once nobody refers to the iterator
    best = min(range(stop_after), key=lambda index: history[index].validation_loss)
    assert best < stop_after - 1, "the fit should have overfitted"
    assert same(seen[best], net.state_dict())
    assert history[best].validation_loss == held_out(net, validation)


def test_best_epoch_is_restored_on_failure() -> None:
    """Also where the consumer raises in the middle of the loop."""
    net, train, validation = overfitting()
    history = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 # the loop is the thing tested
        for epoch in run_epochs(begun(net, train, epochs=20), train, validation):
            history.append(epoch)
            if len(history) == 5:
                raise KeyboardInterrupt
    assert min(epoch.validation_loss for epoch in history) == held_out(net, validation)


@pytest.mark.parametrize("patience", [1, 3, 10])
def test_patience(patience: int) -> None:
    """The fit ends `patience` epochs after its best one, and is till then the fit that never stops early."""
    net, train, validation = overfitting()
    whole = list(run_epochs(begun(net, train, epochs=40, batch_size=3), train, validation))
    waited, best = 0, math.inf
    expected = []
    for epoch in whole:
        expected.append(epoch)
        waited = 0 if epoch.validation_loss < best else waited + 1
        best = min(best, epoch.validation_loss)
        if waited == patience:
            break
    net, train, validation = overfitting()
    state = begun(net, train, epochs=40, batch_size=3, patience=patience)
    assert expected == list(run_epochs(state, train, validation))
    assert len(expected) < 40, "the fit should have stopped early"
    assert state.finished
    assert best == held_out(net, validation)


def test_patience_counts_equal_losses_as_no_better() -> None:
    """Where the weights stand still the first epoch is the best one."""
    train, validation = regression(), regression(20, 1)
    state = begun(fresh(), train, epochs=40, patience=4, learning_rate=1e-30)
    assert 5 == len(list(run_epochs(state, train, validation)))
    assert 1 == (state.best_epoch and state.best_epoch.number)


# A loss that is not a number any more

TOO_LARGE = "the learning rate is too large: try a smaller one"


OUTLIER = "a feature lies 1e+30 standard deviations off its mean: look for outliers"


def outlier(rows: Rows) -> Rows:
    """Move one row far off."""
    x, y = rows
    x[7, 1] = -1e30
    return x, y


@pytest.mark.parametrize(
    ("train", "validation", "changes", "expected"),
    [
        (
            regression(),
            regression(20, 1),
            {"learning_rate": 1e15},
            f"step 2 (epoch 1), learning rate 1e+15: probably {TOO_LARGE}",
        ),
        # all rows in one batch, whose loss comes before the update: only the validation rows can show it
        (
            regression(),
            regression(20, 1),
            {"learning_rate": 1e15, "batch_size": 50},
            f"step 1 (epoch 1), learning rate 1e+15: probably {TOO_LARGE}",
        ),
        (
            outlier(regression()),
            regression(20, 1),
            {"batch_size": 50},
            f"step 1 (epoch 1), learning rate 0.01: probably {OUTLIER}",
        ),
        (
            regression(),
            outlier(regression(20, 1)),
            {},
            f"step 4 (epoch 1), learning rate 0.01: probably {OUTLIER}",
        ),
    ],
    ids=["train", "validation", "train outlier", "validation outlier"],
)
def test_loss_that_is_not_finite_is_said(
    train: Rows, validation: Rows, changes: dict[str, Any], expected: str
) -> None:
    """One line with the step, the epoch, the rate and the likely cause; the net keeps the weights it had."""
    net = fresh()
    with pytest.raises(Diverged, match=f"^{re.escape(f'the loss is inf at {expected}')}$"):
        list(run_epochs(begun(net, train, **changes), train, validation))
    assert same(fresh().state_dict(), net.state_dict())


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_best_epoch_outlives_a_later_divergence(schedule: str) -> None:
    """Three good epochs, then a rate that is far too large: steps count from the beginning, and net is as it was."""
    train, validation = regression(), regression(20, 1)
    state = begun(fresh(), train, epochs=3)
    for epoch in run_epochs(state, train, validation):
        if epoch.number == 3:
            tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    net = fresh()
    later = begun(net, train, epochs=6, learning_rate=1e15, schedule=schedule)
    later.restore(tensors, state.history)
    shown = "1e+15" if schedule == "constant" else "4.34737e+14"  # 1e15 (1 + cos(pi 13 / 24)) / 2
    expected = f"the loss is inf at step 14 (epoch 4), learning rate {shown}: probably {TOO_LARGE}"
    with pytest.raises(Diverged, match=f"^{re.escape(expected)}$"):
        list(run_epochs(later, train, validation))
    assert state.history == later.history
    assert same(state.net.state_dict(), net.state_dict())
    assert held_out(net, validation) == min(epoch.validation_loss for epoch in state.history)
