"""model.step: the engine's gradients against autograd and finite differences, its updates against torch.optim."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from model.fit.step import ALIGNMENT_FLOATS, Batch, Step, cross_entropy, squared_error
from model.net import TwoLayerNet

UNIT = 2.0**-24
"""Half the distance from 1 to the next float32: the relative rounding of one operation."""

SHAPES = [
    (1, 1, 1, 1),
    (1, 5, 3, 2),
    (7, 3, 1, 1),
    (64, 10, 16, 3),
    (33, 20, 50, 10),
    (5, 17, 16, 1),
    (2, 40, 100, 7),
]
"""Batch, in_features, hidden_features, out_features."""
BOTH = pytest.mark.parametrize(
    "classification", [False, True], ids=["regression", "classification"]
)


@dataclass(frozen=True)
class Problem:
    """A network before the engine takes it over, and rows for it."""

    net: TwoLayerNet
    x: Tensor
    """(batch, in_features)."""
    y: Tensor
    """(batch, out_features), or classes (batch,) int64."""

    @property
    def classification(self) -> bool:
        """Whether the loss is the cross-entropy."""
        return self.y.dtype == torch.int64

    @property
    def out_features(self) -> int:
        """The width of the last layer."""
        return self.net.linear2.out_features

    def step(self, **options: Any) -> Step:
        """Hand a copy of the network to the engine."""
        loss = cross_entropy if self.classification else squared_error
        return Step(copy.deepcopy(self.net), loss, **options)

    def batch(self, weight: Tensor) -> Batch:
        """Make the engine's batch; weight is (batch,)."""
        target = (
            functional.one_hot(self.y, self.out_features).to(self.x.dtype)
            if self.classification
            else self.y
        )
        return Batch(self.x, target.t().contiguous(), weight[None, :])

    def row_losses(self, scores: Tensor) -> Tensor:
        """Return torch's own loss of each row, (batch,)."""
        if self.classification:
            return functional.cross_entropy(scores, self.y, reduction="none")
        return functional.mse_loss(scores, self.y, reduction="none").sum(1)


def problem(
    batch: int,
    in_features: int,
    hidden_features: int,
    out_features: int,
    *,
    classification: bool,
    seed: int = 0,
) -> Problem:
    """Draw a network and rows, of torch's default type."""
    torch.manual_seed(seed)
    net = TwoLayerNet(in_features, hidden_features, out_features)
    x = torch.randn(batch, in_features)
    return Problem(
        net,
        x,
        torch.randint(out_features, (batch,))
        if classification
        else torch.randn(batch, out_features),
    )


def gradients(step: Step) -> list[Tensor]:
    """Return the gradient in the order and shapes of the network's parameters."""
    return [step.weight1_gradient, step.bias1_gradient, step.weight2_gradient, step.bias2_gradient]


def row_weights(batch: int) -> Tensor:
    """Make weights that differ from row to row; one of several rows counts nothing."""
    weight = torch.linspace(0.5, 2, batch)
    weight[1:2] = 0
    return weight


# Gradients


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("float64")
def test_gradients_are_autograds(shape: tuple[int, int, int, int], classification: bool) -> None:
    """In float64 loss and gradients agree with the nn.Module under autograd to 1e-12, each row with its own weight."""
    given = problem(*shape, classification=classification)
    weight = row_weights(shape[0])
    loss = (weight * given.row_losses(given.net(given.x))).sum()
    expected = torch.autograd.grad(loss, list(given.net.parameters()))
    step = given.step()
    step.differentiate(given.batch(weight), step.reduced[-1])
    torch.testing.assert_close(loss.detach(), step.reduced[-1], rtol=1e-12, atol=1e-12)
    for exact, found in zip(expected, gradients(step), strict=True):
        torch.testing.assert_close(exact, found, rtol=1e-12, atol=1e-12)


def class_weights(out_features: int) -> Tensor:
    """Make a weight for each class."""
    return torch.linspace(0.25, 4, out_features)


LOSSES: dict[str, tuple[bool, Callable[[Problem], Tensor], Callable[[Problem, Tensor], Tensor]]] = {
    "mean squared error": (
        False,
        lambda given: torch.full((len(given.y),), 1 / given.y.numel()),
        lambda given, scores: functional.mse_loss(scores, given.y),
    ),
    "summed squared error": (
        False,
        lambda given: torch.ones(len(given.y)),
        lambda given, scores: functional.mse_loss(scores, given.y, reduction="sum"),
    ),
    "mean cross-entropy": (
        True,
        lambda given: torch.full((len(given.y),), 1 / len(given.y)),
        lambda given, scores: functional.cross_entropy(scores, given.y),
    ),
    "summed cross-entropy": (
        True,
        lambda given: torch.ones(len(given.y)),
        lambda given, scores: functional.cross_entropy(scores, given.y, reduction="sum"),
    ),
    "weighted mean cross-entropy": (
        True,
        lambda given: (picked := class_weights(given.out_features)[given.y]) / picked.sum(),
        lambda given, scores: functional.cross_entropy(
            scores, given.y, class_weights(given.out_features)
        ),
    ),
}
"""By torch's name: whether there are classes, the weights of the rows that make it so, and torch's own."""


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("float64")
def test_row_weights_make_torchs_losses(shape: tuple[int, int, int, int], name: str) -> None:
    """Mean, sum and class weights are weights of rows: loss and gradients of F.mse_loss and F.cross_entropy."""
    classification, weight_of, loss_of = LOSSES[name]
    given = problem(*shape, classification=classification)
    loss = loss_of(given, given.net(given.x))
    expected = torch.autograd.grad(loss, list(given.net.parameters()))
    step = given.step()
    step.differentiate(given.batch(weight_of(given)), step.reduced[-1])
    torch.testing.assert_close(loss.detach(), step.reduced[-1], rtol=1e-12, atol=1e-12)
    for exact, found in zip(expected, gradients(step), strict=True):
        torch.testing.assert_close(exact, found, rtol=1e-12, atol=1e-12)


def magnitudes(given: Problem, weight: Tensor) -> list[Tensor]:
    """Return each gradient as it would be if nothing in it cancelled: all factors and terms by their absolute values.

    For the squared error |dL/dv| <= 2 w (|v| + |t|). For the cross-entropy |dL/dv| <= w (p + t), and a change d of the
    scores changes p by a factor of at most exp(2 |d|): so its relative error is theirs, twice, times |v|.
    """
    weight1, bias1, weight2, bias2 = (
        parameter.detach().abs() for parameter in given.net.parameters()
    )
    x = given.x.abs()
    hidden = x @ weight1.t() + bias1  # (batch, hidden_features)
    scores = hidden @ weight2.t() + bias2  # (batch, out_features)
    if given.classification:
        target = functional.one_hot(given.y, given.out_features)
        probabilities = torch.softmax(given.net(given.x).detach(), 1)
        by_scores = (probabilities + target) * (1 + 2 * scores.max(1, keepdim=True).values)
    else:
        by_scores = 2 * (scores + given.y.abs())
    by_scores = by_scores * weight[:, None]
    by_hidden = by_scores @ weight2
    return [by_hidden.t() @ x, by_hidden.sum(0), by_scores.t() @ hidden, by_scores.sum(0)]


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_of_the_gradients(shape: tuple[int, int, int, int], classification: bool) -> None:
    """In float32 no derivative is further from float64 autograd's than rounding can carry it.

    A sum of n products is off by at most n u times the sum of their absolute values (Higham 2002, section 3.1), and
    along the longest path a derivative passes sums over in_features, hidden_features, out_features and the rows, and
    some 20 single operations.
    """
    given = problem(*shape, classification=classification)
    weight = row_weights(shape[0])
    step = given.step()
    step.differentiate(given.batch(weight), step.reduced[-1])
    exact = Problem(
        copy.deepcopy(given.net).double(),
        given.x.double(),
        given.y if classification else given.y.double(),
    )
    loss = (weight.double() * exact.row_losses(exact.net(exact.x))).sum()
    expected = torch.autograd.grad(loss, list(exact.net.parameters()))
    bounds = magnitudes(exact, weight.double())
    for derivative, found, magnitude in zip(expected, gradients(step), bounds, strict=True):
        assert torch.float32 == found.dtype
        assert bool(((derivative - found).abs() <= (sum(shape) + 20) * UNIT * magnitude).all())


@BOTH
@pytest.mark.usefixtures("float64")
def test_gradients_are_finite_differences(classification: bool) -> None:
    """Of the loss itself, without autograd's help; and 0 by what only fills a cache line.

    Central differences over 2h are off by about h^2 and by the loss's rounding / h: both below 1e-8 at h = 1e-6.
    """
    given = problem(6, 4, 5, 3, classification=classification)
    step, batch = given.step(), given.batch(row_weights(6))
    step.differentiate(batch, step.reduced[-1])
    found = step.gradient.clone()
    expected = torch.zeros_like(found)
    for index in range(len(found)):
        before = float(step.parameters[index])
        losses = []
        for change in (1e-6, -1e-6):
            step.parameters[index] = before + change
            step.differentiate(batch, step.reduced[-1])
            losses.append(float(step.reduced[-1]))
        step.parameters[index] = before
        expected[index] = (losses[0] - losses[1]) / 2e-6
    assert found.abs().max() > 0.1, "the gradient should not vanish"
    torch.testing.assert_close(expected, found, rtol=0, atol=1e-8)


@BOTH
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.usefixtures("float64")
def test_slope_at_zero_is_autograds(rows: int, classification: bool) -> None:
    """Where the pre-activation is exactly 0 nothing flows back: rows of zeros, and no bias."""
    given = problem(rows, 4, 5, 3, classification=classification)
    given.net.linear1.bias.data.zero_()
    given.x[0] = 0
    weight = torch.ones(rows)
    loss = (weight * given.row_losses(given.net(given.x))).sum()
    expected = torch.autograd.grad(loss, list(given.net.parameters()))
    step = given.step()
    step.differentiate(given.batch(weight), step.reduced[-1])
    for exact, found in zip(expected, gradients(step), strict=True):
        torch.testing.assert_close(exact, found, rtol=1e-12, atol=1e-12)
    if rows == 1:
        for by_layer1 in (step.weight1_gradient, step.bias1_gradient, step.weight2_gradient):
            assert 0 == by_layer1.abs().max()
        assert 0 < step.bias2_gradient.abs().max()


# Updates


RATES = [0.01 * (1 + (step % 7)) for step in range(50)]
"""Of a schedule that changes at every step."""


def trajectory(
    given: Problem, optimizer: torch.optim.Optimizer, net: nn.Module, batches: list[Tensor]
) -> tuple[list[float], list[Tensor]]:
    """Step through the batches of row numbers with autograd and an optimizer; return losses and parameters."""
    losses = []
    for rate, rows in zip(RATES, batches, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        some = Problem(given.net, given.x[rows], given.y[rows])
        loss = some.row_losses(net(some.x)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        optimizer.step()
        losses.append(loss.item())
    return losses, [parameter.detach() for parameter in net.parameters()]


def check_trajectory(given: Problem, weight_decay: float, atol: float) -> None:
    """Assert that 50 steps of the engine end where torch.optim does, by the same losses."""
    order = torch.Generator().manual_seed(1)
    batches = [torch.randperm(len(given.x), generator=order)[: 5 + step % 2] for step in range(50)]
    net = copy.deepcopy(given.net)
    optimizer = (
        torch.optim.AdamW(net.parameters(), weight_decay=weight_decay)
        if weight_decay
        else torch.optim.Adam(net.parameters())
    )
    losses, expected = trajectory(given, optimizer, net, batches)

    step = given.step(weight_decay=weight_decay)
    found = torch.zeros(50)
    step.run(
        [
            Problem(given.net, given.x[rows], given.y[rows]).batch(
                torch.full((len(rows),), 1 / len(rows))
            )
            for rows in batches
        ],
        RATES,
        found,
    )
    torch.testing.assert_close(torch.tensor(losses), found, rtol=0, atol=atol)
    assert max(losses) - min(losses) > 0.1, "the parameters should have moved"
    for exact, view in zip(
        expected, [step.weight1, step.bias1, step.weight2, step.bias2], strict=True
    ):
        torch.testing.assert_close(exact, view, rtol=0, atol=atol)
    assert 50 == step.count.item()


@BOTH
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.usefixtures("float64")
def test_updates_are_torch_optims(weight_decay: float, classification: bool) -> None:
    """50 steps are those of torch.optim.Adam, with weight decay those of AdamW, to 1e-11 in float64."""
    check_trajectory(problem(20, 6, 9, 3, classification=classification), weight_decay, 1e-11)


@BOTH
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_updates_are_torch_optims_in_float32(weight_decay: float, classification: bool) -> None:
    """Likewise to 1e-5: 50 steps of at most 0.07, each off by the relative rounding of its gradient, about 1e-6."""
    check_trajectory(problem(20, 6, 9, 3, classification=classification), weight_decay, 1e-5)


def test_loss_is_measured_before_the_update() -> None:
    """The first loss is the untouched network's."""
    given = problem(8, 3, 4, 2, classification=False)
    losses = torch.zeros(2)
    step = given.step()
    step.run([given.batch(torch.ones(8))] * 2, [0.1, 0.1], losses)
    assert (
        pytest.approx(given.row_losses(given.net(given.x)).sum().item(), rel=1e-6)
        == losses[0].item()
    )
    assert losses[1] < losses[0]


# Where the parameters live


def taken_over() -> tuple[TwoLayerNet, Step, dict[str, Tensor]]:
    """Return a network, the engine that took it over, and the network's tensors before."""
    given = problem(8, 3, 5, 2, classification=False)
    before = {name: tensor.clone() for name, tensor in given.net.state_dict().items()}
    return given.net, Step(given.net, squared_error, weight_decay=0.1), before


def filling(net: TwoLayerNet, step: Step) -> Tensor:
    """Return where the flat parameter holds no parameter, as a mask of its shape."""
    mask = torch.ones_like(step.parameters, dtype=torch.bool)
    for parameter in net.parameters():
        begin = (parameter.data_ptr() - step.parameters.data_ptr()) // 4
        mask[begin : begin + parameter.numel()] = False
    return mask


def test_parameters_are_views_of_the_flat_one() -> None:
    """The network keeps its values, each parameter on its own cache line; what changes one changes the other."""
    net, step, before = taken_over()
    assert list(before) == list(net.state_dict())
    for name, parameter in net.named_parameters():
        assert torch.equal(before[name], parameter)
        assert 0 == (parameter.data_ptr() - step.parameters.data_ptr()) % (4 * ALIGNMENT_FLOATS)
    assert sum(tensor.numel() for tensor in before.values()) == int((~filling(net, step)).sum())
    step.parameters.fill_(0.5)
    assert all(bool((tensor == 0.5).all()) for tensor in net.state_dict().values())
    net.load_state_dict(before)
    views = step.weight1, step.bias1, step.weight2, step.bias2
    for expected, view in zip(before.values(), views, strict=True):
        assert torch.equal(expected, view)


def test_filling_stays_zero() -> None:
    """What lies between two parameters is never moved, by gradient, momentum or decay."""
    net, step, _ = taken_over()
    mask = filling(net, step)
    assert mask.any()
    batch = problem(8, 3, 5, 2, classification=False).batch(torch.ones(8))
    step.run([batch] * 5, [0.1] * 5, torch.zeros(5))
    for tensor in (step.parameters, step.gradient, step.first_moment, step.second_moment):
        assert 0 == tensor[mask].abs().max()
        assert bool((tensor[~mask] != 0).any())


@BOTH
def test_nothing_is_recorded_and_next_to_nothing_allocated(classification: bool) -> None:
    """Autograd has no part in a step, and after the first of a size no buffer is made: a few scalars are."""
    given = problem(40, 30, 50, 20, classification=classification)
    step, batch, losses = given.step(), given.batch(torch.ones(40)), torch.zeros(5)
    step.run([batch] * 5, [1e-3] * 5, losses)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step.run([batch] * 5, [1e-3] * 5, losses)
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profiled.key_averages())
    assert allocated < 5 * 20 * 4  # bytes: less than one column of scores a step
    for tensor in (*step.state.values(), step.gradient, step.reduced[-1], losses):
        assert not tensor.requires_grad
        assert tensor.grad_fn is None


def test_state_continues_bit_for_bit() -> None:
    """Copied into another engine, it goes on exactly as the first does."""
    given = problem(8, 3, 5, 2, classification=True)
    batch = given.batch(torch.ones(8))
    first, second = given.step(), given.step()
    first.run([batch] * 5, [0.1] * 5, torch.zeros(5))
    for name, tensor in second.state.items():
        tensor.copy_(first.state[name])
    for step in (first, second):
        step.run([batch] * 5, [0.1] * 5, torch.zeros(5))
    for name, tensor in second.state.items():
        assert torch.equal(first.state[name], tensor)
