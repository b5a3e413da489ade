"""One training step: forward pass, loss, hand-derived gradients, and Adam over one flat parameter.

On a small network, most of a step's time goes into autograd's recording, memory allocation, and the
optimizer's loop over parameters. This step avoids all three: it writes into preallocated buffers,
and the network's parameters are views of one flat tensor. tests/model/fit/test_step.py compares the
gradients with autograd and the updates with torch.optim.

Activations are column-major, one column per row of the data, because the large matrix products are
faster in this layout. The loss of a batch is the weighted sum of its rows' losses; the weights
account for the reduction, for the class weights, and for the shares of several processes.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from model.fit.cuda_graph import CapturedSteps
from model.net import TwoLayerNet

ALIGNMENT_FLOATS = 16
"""Alignment of each parameter in the flat parameter: 16 floats, the size of a cache line."""


class Batch:
    """The rows of one step, float32, on the network's device.

    Attributes:
        x: (batch, in_features), standardised.
        columns: the same memory viewed as (in_features, batch).
        target: (out_features, batch), target values, or a one-hot column for the class of each row.
        weight: (1, batch), the weight of each row in the loss.
        size: the number of rows.
    """

    def __init__(self, x: Tensor, target: Tensor, weight: Tensor) -> None:
        self.x, self.columns, self.target, self.weight = x, x.t(), target, weight
        self.size = x.shape[0]


class Buffers:
    """Preallocated tensors for the intermediate results of a step, for batches of one size."""

    def __init__(
        self, batch: int, hidden_features: int, out_features: int, device: torch.device
    ) -> None:
        self.hidden = torch.empty(hidden_features, batch, device=device)
        self.hidden_rows = self.hidden.t()
        self.hidden_gradient = torch.empty_like(self.hidden)
        self.scores = torch.empty(out_features, batch, device=device)
        self.scores_gradient = torch.empty_like(self.scores)
        self.scratch = torch.empty_like(self.scores)
        self.scratch_flat = self.scratch.view(-1)
        self.scores_gradient_flat = self.scores_gradient.view(-1)
        self.ones = torch.ones(batch, device=device)


Loss = Callable[[Batch, Buffers, Tensor], None]
"""Function that computes the loss L of the scores v, given the targets t and the row weights w.

It reads v from buffers.scores, and writes dL/dv to buffers.scores_gradient and L to a () tensor.
"""


def squared_error(batch: Batch, buffers: Buffers, loss: Tensor) -> None:
    """Compute L = sum_i w_i |v_i - t_i|^2 and dL/dv = 2 w (v - t)."""
    difference, gradient = buffers.scratch, buffers.scores_gradient  # (out_features, batch)
    torch.sub(buffers.scores, batch.target, out=difference)
    torch.mul(difference, batch.weight, out=gradient)
    torch.dot(buffers.scratch_flat, buffers.scores_gradient_flat, out=loss)
    gradient.add_(gradient)  # Adding is faster than multiplying by a Python number.


def cross_entropy(batch: Batch, buffers: Buffers, loss: Tensor) -> None:
    """Compute L = -sum_i w_i t_i . log softmax(v_i) and dL/dv = w (softmax(v) - t)."""
    log_softmax, gradient = buffers.scratch, buffers.scores_gradient  # (out_features, batch)
    torch.log_softmax(buffers.scores, 0, out=log_softmax)
    torch.mul(batch.target, batch.weight, out=gradient)
    torch.dot(buffers.scratch_flat, buffers.scores_gradient_flat, out=loss)
    loss.neg_()
    torch.exp(log_softmax, out=gradient)
    gradient.sub_(batch.target).mul_(batch.weight)


class Step:
    """The flat parameter, its gradient and Adam's moments; the methods take training steps."""

    def __init__(self, net: TwoLayerNet, loss: Loss, weight_decay: float = 0.0) -> None:
        """Replace net's float32 parameters by views of one flat tensor; weight_decay is AdamW's."""
        self.loss, self.weight_decay = loss, weight_decay
        shapes = [parameter.shape for parameter in net.parameters()]
        sizes = [-(-shape.numel() // ALIGNMENT_FLOATS) * ALIGNMENT_FLOATS for shape in shapes]

        def views(flat: Tensor) -> list[Tensor]:
            pieces = zip(torch.split(flat, sizes), shapes, strict=True)
            return [piece[: shape.numel()].view(shape) for piece, shape in pieces]

        self.device = net.linear1.weight.device
        self.parameters = torch.zeros(sum(sizes), device=self.device)
        # The last element holds the loss, which lets one all_reduce sum the gradient and the loss.
        self.reduced = torch.zeros(sum(sizes) + 1, device=self.device)
        self.gradient = self.reduced[:-1]
        self.first_moment = torch.zeros_like(self.parameters)
        self.second_moment = torch.zeros_like(self.parameters)
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
        """The tensors that determine all further steps bit for bit, by name, without a copy."""
        names = ("parameters", "first_moment", "second_moment", "count")
        return {name: getattr(self, name) for name in names}

    def run(self, batches: Sequence[Batch], rates: Sequence[float], losses: Tensor) -> None:
        """Take one step per batch, and write its pre-update loss into losses, (steps,).

        On a GPU, a CUDA graph is captured for the addresses of the batches: pass the same tensors
        each time, refilled with other rows.
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
        """Take one step; write the pre-update loss into `loss`, a tensor of shape ()."""
        if distributed.is_initialized():
            self.differentiate(batch, self.reduced[-1])
            distributed.all_reduce(self.reduced)
            loss.copy_(self.reduced[-1])
        else:
            self.differentiate(batch, loss)
        self.update(rate)

    def evaluate(self, batch: Batch, loss: Tensor) -> Buffers:
        """Run the forward pass and write the loss into the () tensor `loss`; return the buffers."""
        buffers = self._buffers.get(batch.size)
        if buffers is None:
            sizes = batch.size, len(self.bias1), len(self.bias2)
            buffers = self._buffers[batch.size] = Buffers(*sizes, self.device)
        # (hidden_features, batch)
        torch.addmm(self.bias1_column, self.weight1, batch.columns, out=buffers.hidden).relu_()
        # (out_features, batch)
        torch.addmm(self.bias2_column, self.weight2, buffers.hidden, out=buffers.scores)
        self.loss(batch, buffers, loss)
        return buffers

    def differentiate(self, batch: Batch, loss: Tensor) -> None:
        """Write the batch's loss into the () tensor `loss`, and its derivatives into gradient."""
        buffers = self.evaluate(batch, loss)
        scores_gradient, hidden_gradient = buffers.scores_gradient, buffers.hidden_gradient
        # (out_features, hidden_features), then (out_features,)
        torch.mm(scores_gradient, buffers.hidden_rows, out=self.weight2_gradient)
        torch.mv(scores_gradient, buffers.ones, out=self.bias2_gradient)
        # (hidden_features, batch)
        torch.mm(self.weight2_rows, scores_gradient, out=hidden_gradient)
        # The slope of ReLU is 1 where its output is positive and 0 elsewhere.
        slope = torch.sign(buffers.hidden, out=buffers.hidden)
        hidden_gradient.mul_(slope)
        # (hidden_features, in_features), then (hidden_features,)
        torch.mm(hidden_gradient, batch.x, out=self.weight1_gradient)
        torch.mv(hidden_gradient, buffers.ones, out=self.bias1_gradient)

    def update(self, rate: float | Tensor) -> None:
        """Update the parameters by AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019).

        This calls the operator inside torch.optim.AdamW directly, because the optimizer's Python
        code takes a quarter of a step's time on a small network, as bench/train measures.
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
