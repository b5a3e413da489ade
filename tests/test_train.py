"""model.train: the device, the threads, and the one loop."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.net import TwoLayerNet
from model.table import DataError
from model.train import PRODUCTS_PER_THREAD, device, fit, loss, threads

Rows = tuple[Tensor, Tensor]


def regression(rows: int = 50, seed: int = 0) -> Rows:
    """Make standardised rows, (rows, 3), and a noisy linear target, (rows, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-1.0], [0.5]]) + 0.1 * torch.randn(rows, 1, generator=generator)


def classification(rows: int = 50, seed: int = 0) -> Rows:
    """Make rows, (rows, 3), and the class of each, (rows,)."""
    x, y = regression(rows, seed)
    return x, (y[:, 0] > 0).long()


def fresh(out_features: int = 1) -> TwoLayerNet:
    """Make the same untrained network at every call."""
    torch.manual_seed(0)
    return TwoLayerNet(3, 8, out_features)


def config(**changes: Any) -> TrainConfig:
    """Make a quick configuration."""
    return TrainConfig(**{"hidden_features": 8, "epochs": 5, "batch_size": 16, "learning_rate": 1e-2, **changes})


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether every tensor is the same, bit for bit."""
    return all(torch.equal(left[name], right[name]) for name in left)


def test_cuda_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is used, or refused; auto takes what there is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = "device: cuda was asked for, and this PyTorch finds no CUDA device (use auto or cpu)"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        device("cuda")
    assert torch.device("cpu") == device("auto") == device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch.device("cuda") == device("auto")
    assert torch.device("cpu") == device("cpu")


@pytest.mark.parametrize(
    ("hidden_features", "batch_size", "most", "expected"),
    [(100, 64, 8, 1), (1, 1, 1, 1), (1000, 64, 8, 3), (1000, 64, 2, 2), (1000, 6400, 8, 8)],
)
def test_threads_grow_with_the_step(hidden_features: int, batch_size: int, most: int, expected: int) -> None:
    """One for a small step; then one for each PRODUCTS_PER_THREAD multiplications, as far as there are cores."""
    net = TwoLayerNet(990, hidden_features, 10)
    assert expected == threads(net, batch_size, most)
    assert (expected - 1) * PRODUCTS_PER_THREAD <= 1000 * hidden_features * batch_size


def test_loss_is_chosen_by_the_target() -> None:
    """Class indices are scored by cross-entropy, numbers by the mean squared error, each in its formula."""
    scores = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert pytest.approx(expected) == loss(scores, torch.tensor([1, 0])).item()
    assert pytest.approx((math.log(3) ** 2 + 1) / 4) == loss(scores, torch.tensor([[0.0, 0.0], [1.0, 0.0]])).item()


@pytest.mark.parametrize("rows", [regression, classification])
def test_same_seed_same_bits(rows: Any) -> None:
    """The same configuration gives the same history and weights; another seed another order of rows."""
    fits = []
    for seed in (0, 0, 1):
        net = fresh(2 if rows is classification else 1)
        fits.append((list(fit(net, rows(), rows(20, 1), config(seed=seed))), net.state_dict()))
    assert fits[0][0] == fits[1][0]
    assert same(fits[0][1], fits[1][1])
    assert not same(fits[0][1], fits[2][1])


def test_fit_does_not_use_the_global_generator() -> None:
    """The order of the rows depends on the seed alone, whatever else draws random numbers."""
    expected, net = fresh(), fresh()
    list(fit(expected, regression(), regression(20, 1), config()))
    for _ in fit(net, regression(), regression(20, 1), config()):
        torch.rand(7)
    assert same(expected.state_dict(), net.state_dict())


def test_first_step_is_adams() -> None:
    """One full batch moves each weight by lr g / (|g| + eps), the first step of Adam (Kingma and Ba, algorithm 1)."""
    net, (x, y) = fresh(), regression()
    error = nn.functional.mse_loss(net(x), y)
    gradients = torch.autograd.grad(error, list(net.parameters()))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    (epoch,) = fit(net, (x, y), (x, y), config(epochs=1, batch_size=50))
    assert pytest.approx(error.item()) == epoch.train_loss
    for start, gradient, parameter in zip(before, gradients, net.parameters(), strict=True):
        torch.testing.assert_close(start - 1e-2 * gradient / (gradient.abs() + 1e-8), parameter.detach())


@pytest.mark.parametrize("batch_size", [1, 16, 49, 50, 1000])
def test_train_loss_is_the_mean_over_rows(batch_size: int) -> None:
    """Where the weights stand still, it is the loss over all rows, also with an uneven last batch."""
    net = fresh()
    x, y = regression()
    (epoch,) = fit(net, (x, y), regression(20, 1), config(epochs=1, batch_size=batch_size, learning_rate=1e-30))
    expected = loss(net(x), y).item()
    assert pytest.approx(expected, rel=1e-5) == epoch.train_loss


def test_history_is_numbered_and_learns() -> None:
    """Each epoch comes once, and a linear problem is learnt almost to its noise."""
    history = list(fit(fresh(), regression(200), regression(50, 1), config(epochs=60)))
    assert list(range(1, 61)) == [epoch.number for epoch in history]
    assert history[-1].train_loss < 0.03 < 1 < history[0].train_loss


def overfitting() -> tuple[TwoLayerNet, Rows, Rows]:
    """Make a fit whose validation loss soon rises: few rows, and validation targets of the other sign."""
    x, y = regression(8)
    return fresh(), (x, y), (x, -y)


@pytest.mark.parametrize("stop_after", [4, 20])
def test_best_epoch_is_restored(stop_after: int) -> None:
    """At the end, and where the consumer stops early, net holds the weights of the lowest validation loss."""
    net, train, validation = overfitting()
    history, seen = [], []
    fitting = fit(net, train, validation, config(epochs=20))
    for epoch in fitting:
        history.append(epoch)
        seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        if len(history) == stop_after:
            break
    fitting.close()  # type: ignore[attr-defined] # as leaving the loop does, once nobody refers to the iterator
    best = min(range(stop_after), key=lambda index: history[index].validation_loss)
    assert best < stop_after - 1, "the fit should have overfitted"
    assert same(seen[best], net.state_dict())
    assert history[best].validation_loss == loss(net(validation[0]), validation[1]).item()


def test_best_epoch_is_restored_on_failure() -> None:
    """Also where the consumer raises in the middle of the loop."""
    net, train, validation = overfitting()
    history = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 # the loop is the thing tested
        for epoch in fit(net, train, validation, config(epochs=20)):
            history.append(epoch)
            if len(history) == 5:
                raise KeyboardInterrupt
    expected = min(epoch.validation_loss for epoch in history)
    assert expected == loss(net(validation[0]), validation[1]).item()


def test_loss_that_is_not_finite_is_said() -> None:
    """One line with the epoch and what to do; the net keeps finite weights."""
    net = fresh()
    with pytest.raises(DataError) as caught:
        list(fit(net, regression(), regression(20, 1), config(learning_rate=1e30)))
    pattern = r"the loss is \S+ \(validation \S+\) after epoch 1 at learning rate 1e\+30: try a smaller one"
    assert re.fullmatch(pattern, str(caught.value))
    assert all(parameter.isfinite().all() for parameter in net.parameters())
