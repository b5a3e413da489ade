"""The engine: one step of the fit, which is the first lesson of formulations.py grown up.

Forward, loss, gradients derived by hand, and Adam over one flat parameter, into buffers that are made once. Autograd
records nothing, nothing is allocated, and no optimizer object walks over parameters: on a small network these are most
of a step's time. The network's parameters
become views of the flat one, so whoever reads the net sees what is fitted. tests/test_step.py holds the gradients to
autograd and the updates to torch.optim.

As in that lesson activations are column-major, a column per row of the data: the large products are quicker so.

The loss of a batch is the weighted sum of its rows' losses. The weights carry the mean (1 / rows), the class weights,
and one process's share among several, so that nothing else has to.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from model.fit.cuda_graph import CapturedSteps
from model.net import TwoLayerNet

ALIGNMENT_FLOATS = 16
"""Floats: each parameter begins on a cache line."""


class Batch:
    """The rows of one step, float32, on the network's device.

    Attributes:
        x: (batch, in_features), standardised; columns is the same memory read as (in_features, batch).
        target: (out_features, batch), values, or a one-hot column for each row's class.
        weight: (1, batch), what a row counts in the loss.
        size: the number of rows.
    """

    def __init__(self, x: Tensor, target: Tensor, weight: Tensor) -> None:
        self.x, self.columns, self.target, self.weight = x, x.t(), target, weight
        self.size = x.shape[0]


class Buffers:
    """What a step writes to, for batches of one size."""

    def __init__(
        self, batch: int, hidden_features: int, out_features: int, device: torch.device
    ) -> None:
        self.hidden = torch.empty(hidden_features, batch, device=device)
        self.hidden_rows = self.hidden.t()
        self.hidden_gradient = torch.empty_like(self.hidden)
        self.scores = torch.empty(out_features, batch, device=device)
        self.scores_gradient = torch.empty_like(self.scores)
        self.spare = torch.empty_like(self.scores)
        self.spare_flat, self.scores_gradient_flat = (
            self.spare.view(-1),
            self.scores_gradient.view(-1),
        )
        self.ones = torch.ones(batch, device=device)


Loss = Callable[[Batch, Buffers, Tensor], None]
"""Reads at.scores; writes at.scores_gradient, and the loss into a tensor of shape ()."""


def squared_error(batch: Batch, at: Buffers, loss: Tensor) -> None:
    """L = sum_i w_i |v_i - t_i|^2, so dL/dv = 2 w (v - t)."""
    difference, gradient = at.spare, at.scores_gradient
    torch.sub(at.scores, batch.target, out=difference)
    torch.mul(difference, batch.weight, out=gradient)
    torch.dot(at.spare_flat, at.scores_gradient_flat, out=loss)
    gradient.add_(gradient)  # quicker than a product with a Python number


def cross_entropy(batch: Batch, at: Buffers, loss: Tensor) -> None:
    """L = -sum_i w_i t_i . log softmax(v_i), so dL/dv = w (softmax(v) - t), as each t sums to 1."""
    log_softmax, gradient = at.spare, at.scores_gradient
    torch.log_softmax(at.scores, 0, out=log_softmax)
    torch.mul(batch.target, batch.weight, out=gradient)
    torch.dot(at.spare_flat, at.scores_gradient_flat, out=loss)
    loss.neg_()
    torch.exp(log_softmax, out=gradient)
    gradient.sub_(batch.target).mul_(batch.weight)


class Step:
    """A fit in progress: the flat parameter, its gradient, and Adam's moments."""

    def __init__(self, net: TwoLayerNet, loss: Loss, weight_decay: float = 0.0) -> None:
        """Take over net's parameters, which become views of the flat one.

        Args:
            net: float32, on the device where the fit runs.
            loss: squared_error or cross_entropy.
            weight_decay: AdamW's, decoupled from the gradient; with 0 it is Adam.
        """
        self.loss, self.weight_decay = loss, weight_decay
        shapes = [parameter.shape for parameter in net.parameters()]
        sizes = [-(-shape.numel() // ALIGNMENT_FLOATS) * ALIGNMENT_FLOATS for shape in shapes]

        def views(flat: Tensor) -> list[Tensor]:
            return [
                piece[: shape.numel()].view(shape)
                for piece, shape in zip(torch.split(flat, sizes), shapes, strict=True)
            ]

        self.device = net.linear1.weight.device
        self.parameters = torch.zeros(sum(sizes), device=self.device)
        self.reduced = torch.zeros(
            sum(sizes) + 1, device=self.device
        )  # the gradient, and room for the loss
        self.gradient = self.reduced[:-1]
        self.first_moment, self.second_moment = (
            torch.zeros_like(self.parameters),
            torch.zeros_like(self.parameters),
        )
        self.count = torch.zeros((), device=self.device)
        moments = [self.first_moment], [self.second_moment]
        self._adam = [self.parameters], [self.gradient], *moments, list[Tensor](), [self.count]
        self._one = torch.ones_like(self.count)

        parameters = views(self.parameters)
        for parameter, view in zip(net.parameters(), parameters, strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        self.weight1, self.bias1, self.weight2, self.bias2 = parameters
        self.bias1_column, self.bias2_column = self.bias1[:, None], self.bias2[:, None]
        self.weight2_rows = self.weight2.t()
        self.weight1_gradient, self.bias1_gradient, self.weight2_gradient, self.bias2_gradient = (
            views(self.gradient)
        )
        self._buffers: dict[int, Buffers] = {}
        self._graphs: dict[tuple[int, ...], CapturedSteps] = {}

    @property
    def state(self) -> dict[str, Tensor]:
        """What continues the fit bit for bit, by name: the live tensors, to be saved or copied into."""
        names = ("parameters", "first_moment", "second_moment", "count")
        return {name: getattr(self, name) for name in names}

    def run(self, batches: Sequence[Batch], rates: Sequence[float], losses: Tensor) -> None:
        """Take a step on each batch.

        Args:
            batches: on a GPU, of the same addresses whenever they are of the same shape and number.
            rates: the learning rate of each step.
            losses: (steps,) float32, on the device; receives each step's loss, measured before its update.
        """
        if self.device.type == "cuda" and not distributed.is_initialized():
            key = (batches[0].x.data_ptr(), len(batches), *batches[0].x.shape)
            graph = self._graphs.get(key)
            if graph is None:
                take_steps = functools.partial(self._take_each, batches)
                graph = self._graphs[key] = CapturedSteps(take_steps, len(batches), self.state)
            losses.copy_(graph.replay(rates))
            return
        self._take_each(batches, rates, losses)

    def _take_each(
        self, batches: Sequence[Batch], rates: Sequence[float] | Tensor, losses: Tensor
    ) -> None:
        for batch, rate, loss in zip(batches, rates, losses.unbind(), strict=True):
            self.take(batch, rate, loss)

    def take(self, batch: Batch, rate: float | Tensor, loss: Tensor) -> None:
        """Take one step; write the loss before it into a tensor of shape ()."""
        if distributed.is_initialized():
            self.differentiate(batch, self.reduced[-1])
            distributed.all_reduce(self.reduced)  # of the gradient and the loss at once
            loss.copy_(self.reduced[-1])
        else:
            self.differentiate(batch, loss)
        self.update(rate)

    def evaluate(self, batch: Batch, loss: Tensor) -> Buffers:
        """Write the batch's loss into a tensor of shape (); return what led to it, and its derivatives by scores."""
        at = self._buffers.get(batch.size)
        if at is None:
            at = self._buffers[batch.size] = Buffers(
                batch.size, len(self.bias1), len(self.bias2), self.device
            )
        torch.addmm(
            self.bias1_column, self.weight1, batch.columns, out=at.hidden
        ).relu_()  # (hidden_features, batch)
        torch.addmm(
            self.bias2_column, self.weight2, at.hidden, out=at.scores
        )  # (out_features, batch)
        self.loss(batch, at, loss)
        return at

    def differentiate(self, batch: Batch, loss: Tensor) -> None:
        """Write the batch's loss into a tensor of shape (), and its derivatives by the parameters into gradient."""
        # forward
        at = self.evaluate(batch, loss)
        # backward
        torch.mm(
            at.scores_gradient, at.hidden_rows, out=self.weight2_gradient
        )  # (out_features, hidden_features)
        torch.mv(at.scores_gradient, at.ones, out=self.bias2_gradient)
        torch.mm(
            self.weight2_rows, at.scores_gradient, out=at.hidden_gradient
        )  # (hidden_features, batch)
        slope = torch.sign(
            at.hidden, out=at.hidden
        )  # ReLU's: 1 where it let a value through, 0 elsewhere
        at.hidden_gradient.mul_(slope)
        torch.mm(
            at.hidden_gradient, batch.x, out=self.weight1_gradient
        )  # (hidden_features, in_features)
        torch.mv(at.hidden_gradient, at.ones, out=self.bias1_gradient)

    def update(self, rate: float | Tensor) -> None:
        """Move the parameters: Adam (Kingma and Ba 2015), its decay decoupled (Loshchilov and Hutter 2019).

        This is the operator that torch.optim calls. On a small network the Python around it there takes a quarter of
        the step (bench/train.py), so it is called here, and held to torch.optim by tests.
        """
        self.count.add_(self._one)
        torch._fused_adamw_(
            *self._adam,
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
