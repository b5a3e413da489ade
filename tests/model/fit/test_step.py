"""Tests of model.fit.step: gradients equal autograd's, and updates equal torch.optim's."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from model.fit.step import ALIGNMENT_FLOATS, Batch, Step, cross_entropy, squared_error
from model.net import TwoLayerNet

SHAPES = [(0, 4, 3, 2), (1, 1, 1, 1), (7, 3, 1, 1), (64, 10, 16, 3), (5, 17, 16, 1)]
"""Rows, in_features, hidden_features and out_features of each problem."""
BOTH_TASKS = pytest.mark.parametrize(
    "classification", [False, True], ids=["regression", "classification"]
)


@dataclass(frozen=True)
class Problem:
    """A network and a batch of rows for it."""

    net: TwoLayerNet
    x: Tensor
    """Features, (batch, in_features)."""
    y: Tensor
    """Targets, (batch, out_features), or classes (batch,) int64."""

    @property
    def classification(self) -> bool:
        """Whether the loss is the cross-entropy."""
        return self.y.dtype == torch.int64

    @property
    def out_features(self) -> int:
        """Width of the last layer."""
        return self.net.linear2.out_features

    def step(self, **options: Any) -> Step:
        """Return the step of a copy of the network."""
        loss = cross_entropy if self.classification else squared_error
        return Step(copy.deepcopy(self.net), loss, **options)

    def batch(self, weight: Tensor) -> Batch:
        """Return the batch with row weights (batch,)."""
        target = functional.one_hot(self.y, self.out_features) if self.classification else self.y
        return Batch(self.x, target.to(self.x.dtype).t().contiguous(), weight[None, :])

    def row_losses(self, scores: Tensor) -> Tensor:
        """Return the loss of each row by torch's loss functions, (batch,)."""
        if self.classification:
            return functional.cross_entropy(scores, self.y, reduction="none")
        return functional.mse_loss(scores, self.y, reduction="none").sum(1)


def problem(
    batch: int, in_features: int, hidden_features: int, out_features: int, *, classification: bool
) -> Problem:
    """Draw a network and rows of torch's default dtype."""
    torch.manual_seed(0)
    net = TwoLayerNet(in_features, hidden_features, out_features)
    x = torch.randn(batch, in_features)
    classes = torch.randint(out_features, (batch,))
    return Problem(net, x, classes if classification else torch.randn(batch, out_features))


def gradients(step: Step) -> list[Tensor]:
    """Return the gradient in the order and shapes of the network's parameters."""
    return [step.weight1_gradient, step.bias1_gradient, step.weight2_gradient, step.bias2_gradient]


def row_weights(batch: int) -> Tensor:
    """Return different weights of the rows, with weight 0 for the second row."""
    weight = torch.linspace(0.5, 2, batch)
    weight[1:2] = 0
    return weight


# Gradients


def check_gradients(case: Problem, weight: Tensor) -> Step:
    """Assert that loss and gradients equal autograd's to 1e-12; return the step."""
    loss = (weight * case.row_losses(case.net(case.x))).sum()
    expected = torch.autograd.grad(loss, list(case.net.parameters()))
    step = case.step()
    step.differentiate(case.batch(weight), step.reduced[-1])
    torch.testing.assert_close(loss.detach(), step.reduced[-1], rtol=1e-12, atol=1e-12)
    for exact, gradient in zip(expected, gradients(step), strict=True):
        torch.testing.assert_close(exact, gradient, rtol=1e-12, atol=1e-12)
    return step


@BOTH_TASKS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("float64")
def test_gradients_equal_autograd(shape: tuple[int, int, int, int], classification: bool) -> None:
    """In float64, loss and gradients of weighted rows equal those of autograd."""
    check_gradients(problem(*shape, classification=classification), row_weights(shape[0]))


@BOTH_TASKS
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.usefixtures("float64")
def test_slope_at_zero_equals_autograd(rows: int, classification: bool) -> None:
    """Like autograd, a step passes no gradient through a pre-activation of exactly 0."""
    case = problem(rows, 4, 5, 3, classification=classification)
    case.net.linear1.bias.data.zero_()
    case.x[0] = 0
    step = check_gradients(case, torch.ones(rows))
    if rows == 1:
        for gradient in (step.weight1_gradient, step.bias1_gradient, step.weight2_gradient):
            assert 0 == gradient.abs().max()
        assert 0 < step.bias2_gradient.abs().max()


# Updates


RATES = [0.01 * (1 + (step % 7)) for step in range(50)]
"""Learning rates of 50 steps, which change at every step."""


@BOTH_TASKS
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.usefixtures("float64")
def test_updates_equal_torch_optim(weight_decay: float, classification: bool) -> None:
    """In float64, 50 steps equal those of torch.optim.Adam or AdamW to 1e-11."""
    case = problem(20, 6, 9, 3, classification=classification)
    order = torch.Generator().manual_seed(1)
    parts = []
    for number in range(50):
        rows = torch.randperm(len(case.x), generator=order)[: 5 + number % 2]
        parts.append(Problem(copy.deepcopy(case.net), case.x[rows], case.y[rows]))

    net = copy.deepcopy(case.net)
    optimizer = (
        torch.optim.AdamW(net.parameters(), weight_decay=weight_decay)
        if weight_decay
        else torch.optim.Adam(net.parameters())
    )
    expected = []
    for rate, part in zip(RATES, parts, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        loss = part.row_losses(net(part.x)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # untyped in torch
        optimizer.step()
        expected.append(loss.item())

    step, losses = case.step(weight_decay=weight_decay), torch.zeros(50)
    batches = [part.batch(torch.full((len(part.x),), 1 / len(part.x))) for part in parts]
    step.run(batches, RATES, losses)
    torch.testing.assert_close(torch.tensor(expected), losses, rtol=0, atol=1e-11)
    assert max(expected) - min(expected) > 0.1, "the parameters should have moved"
    views = step.weight1, step.bias1, step.weight2, step.bias2
    for parameter, view in zip(net.parameters(), views, strict=True):
        torch.testing.assert_close(parameter.detach(), view, rtol=0, atol=1e-11)


# The flat parameter


def test_parameters_are_aligned_views() -> None:
    """The network's parameters keep their values and become views of the flat parameter."""
    net = problem(8, 3, 5, 2, classification=False).net
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    step = Step(net, squared_error)
    assert list(before) == list(net.state_dict())
    for name, parameter in net.named_parameters():
        assert torch.equal(before[name], parameter)
        assert 0 == (parameter.data_ptr() - step.parameters.data_ptr()) % (4 * ALIGNMENT_FLOATS)
    step.parameters.fill_(0.5)
    assert all(bool((tensor == 0.5).all()) for tensor in net.state_dict().values())
    net.load_state_dict(before)
    views = step.weight1, step.bias1, step.weight2, step.bias2
    for expected, view in zip(before.values(), views, strict=True):
        assert torch.equal(expected, view)


@BOTH_TASKS
def test_steps_record_nothing_and_allocate_almost_nothing(classification: bool) -> None:
    """Steps leave no autograd graph, and after the first they allocate only a few scalars."""
    case = problem(40, 30, 50, 20, classification=classification)
    step, batch, losses = case.step(), case.batch(torch.ones(40)), torch.zeros(5)
    step.run([batch] * 5, [1e-3] * 5, losses)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step.run([batch] * 5, [1e-3] * 5, losses)
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profiled.key_averages())
    assert allocated < 5 * 20 * 4  # bytes, less than one column of scores per step
    for tensor in (*step.state.values(), step.gradient, step.reduced[-1], losses):
        assert not tensor.requires_grad
        assert tensor.grad_fn is None
