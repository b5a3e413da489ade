"""The same fit written six ways: one after another, its parts pass from the author's hand to the library.

The reference set-up: 64 rows of standard-normal noise through Linear -> ReLU -> Linear, 1000 -> 100 -> 10, squared
error summed over rows and outputs, all rows in every step. The forms are lessons, to be read from top to bottom; each
says what it replaces and what is still done by hand. NumPy in float64 comes first: all others are held to it
(comparison.py runs them side by side).

They share one contract, Form, so that they can be compared at the same weights. In all of them these are w1
(hidden, in), b1 (hidden,), w2 (out, hidden) and b2 (out,); the forms that begin with N(0, 1) weights have no biases.

The first forms are column-major: X is (in, rows), a column per row of data, so that a layer reads as in a textbook,
W X, and the chain rule turns the product around: dW = dA X^T. torch.nn is row-major: x is (rows, in), and nn.Linear
computes x W^T, the same product transposed. So data and activations are transposed between the two ways, weights and
gradients are not. It costs nothing: `x.T` is a view, which reads the same memory the other way round.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from model.net import TwoLayerNet
from model.table.dataset import FloatArray

Arrays = dict[str, FloatArray]
"""Weights or gradients by name: w1, b1, w2, b2 in this order, or w1, w2."""
Start = Literal["normal", "initialised"]
ROWS, IN, HIDDEN, OUT = 64, 1000, 100, 10
"""The shape of the reference set-up."""


@dataclass(frozen=True)
class Setup:
    """What a fit starts from, in float64."""

    x: FloatArray
    """(rows, in)"""
    y: FloatArray
    """(rows, out)"""
    weights: Arrays
    learning_rate: float


class Form(ABC):
    """The contract: made from a Setup, a form takes steps that can be compared with another's.

    The forms in PyTorch also take the dtype in which they compute.
    """

    name: ClassVar[str]
    by_hand: ClassVar[str]
    """What is left to whoever writes it."""
    start: ClassVar[Start]
    """The first weights of the reference set-up: N(0, 1), or sequential()'s."""
    rate: ClassVar[float]
    """The learning rate of the reference set-up."""

    weights: Mapping[str, Tensor | FloatArray]
    gradients: Mapping[str, Tensor | FloatArray]
    """Of the last step, at the weights before its update."""

    @abstractmethod
    def __init__(self, setup: Setup) -> None: ...

    @abstractmethod
    def step(self) -> float:
        """Take a step; return the loss before its update."""


def oracle(x: FloatArray, y: FloatArray, weights: Arrays) -> tuple[float, Arrays]:
    """Return the loss and its gradients in float64, derived by hand; x is (in, rows) and y (out, rows)."""
    w1, w2 = weights["w1"], weights["w2"]  # (hidden, in), (out, hidden)
    b1 = weights.get("b1", np.zeros(len(w1)))[:, None]  # (hidden, 1)
    b2 = weights.get("b2", np.zeros(len(w2)))[:, None]  # (out, 1)
    # forward
    a = w1 @ x + b1  # (hidden, rows)
    h = np.maximum(a, 0)  # (hidden, rows): ReLU
    v = w2 @ h + b2  # (out, rows)
    loss = float(np.sum((v - y) ** 2))
    # backward: the same lines, last to first; d is for "derivative of the loss by"
    dv = 2 * (v - y)  # (out, rows)
    dw2 = dv @ h.T  # (out, hidden)
    db2 = dv.sum(axis=1)  # (out,)
    dh = w2.T @ dv  # (hidden, rows)
    da = dh * (
        a > 0
    )  # (hidden, rows): ReLU's slope is 0 below 0 and 1 above; at 0 it is 0, by torch's convention
    dw1 = da @ x.T  # (hidden, in)
    db1 = da.sum(axis=1)  # (hidden,)
    gradients = {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2}
    return loss, {name: gradients[name] for name in weights}


class NumPy(Form):
    """The form before PyTorch, and the oracle of those that descend by the gradient.

    Replaces nothing. By hand: the weights, the gradients and the update.
    """

    name, by_hand = "numpy", "gradients, update"
    start: ClassVar[Start] = "normal"
    rate = 1e-6
    weights: Arrays

    def __init__(self, setup: Setup) -> None:
        self.x, self.y = setup.x.T, setup.y.T  # (in, rows), (out, rows): a column per row of data
        self.weights = float64(setup.weights)
        self.learning_rate = setup.learning_rate

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        loss, self.gradients = oracle(self.x, self.y, self.weights)
        self.update(self.gradients)
        return loss

    def update(self, gradients: Arrays) -> None:
        """Descend: against the gradient, in proportion to it."""
        for name, gradient in gradients.items():
            self.weights[name] -= self.learning_rate * gradient


class Manual(Form):
    """The same lines in PyTorch.

    Replaces arrays by tensors, which can be float32 and live on a GPU. By hand: the weights, the gradients and the
    update.
    """

    name, by_hand = "manual", "gradients, update"
    start: ClassVar[Start] = "normal"
    rate = 1e-6
    weights: dict[str, Tensor]

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        self.x = torch.tensor(setup.x, dtype=dtype).T  # (in, rows): a column per row of data
        self.y = torch.tensor(setup.y, dtype=dtype).T  # (out, rows)
        self.w1 = torch.tensor(setup.weights["w1"], dtype=dtype)  # (hidden, in)
        self.w2 = torch.tensor(setup.weights["w2"], dtype=dtype)  # (out, hidden)
        self.weights = {"w1": self.w1, "w2": self.w2}
        self.learning_rate = setup.learning_rate

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        # forward
        a = self.w1 @ self.x  # (hidden, rows)
        h = a.clamp(min=0)  # (hidden, rows): ReLU
        v = self.w2 @ h  # (out, rows)
        loss = (v - self.y).pow(2).sum()  # ()
        # backward
        dv = 2 * (v - self.y)  # (out, rows)
        dw2 = dv @ h.T  # (out, hidden)
        dh = self.w2.T @ dv  # (hidden, rows)
        da = dh.masked_fill(
            a <= 0, 0
        )  # (hidden, rows): nothing goes back where nothing came through
        dw1 = da @ self.x.T  # (hidden, in)
        self.gradients = {"w1": dw1, "w2": dw2}
        # update, in place
        self.w1 -= self.learning_rate * dw1
        self.w2 -= self.learning_rate * dw2
        return loss.item()  # sync point: with a GPU, Python waits here for the number


def primer() -> dict[str, Tensor]:
    """Autograd on three numbers: y = w x + b at x=1, w=2, b=3.

    With requires_grad a tensor is a leaf, and what is computed from it is recorded. y.backward() goes through the
    record from y to the leaves and adds dy/dleaf to the .grad of each. y is no leaf: it hands its derivative on.

    Returns:
        x, w and b, with dx = w = 2, dw = x = 1 and db = 1 in .grad; and y, which has none.
    """
    x = torch.tensor(1.0, requires_grad=True)  # ()
    w = torch.tensor(2.0, requires_grad=True)  # ()
    b = torch.tensor(3.0, requires_grad=True)  # ()
    y = w * x + b  # ()
    y.backward()  # type: ignore[no-untyped-call] # torch's
    return {"x": x, "w": w, "b": b, "y": y}


def found(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what backward() has put into the .grad of each weight."""
    return {name: cast(Tensor, weight.grad) for name, weight in weights.items()}


class Autograd(Manual):
    """Manual without its backward lines.

    Replaces the derivation by requires_grad and loss.backward(). By hand: the weights, the update (without a record of
    it), and zeroing the gradients, as backward() adds to what it finds.
    """

    name, by_hand = "autograd", "update, zeroing"

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(setup, dtype)
        self.w1.requires_grad_()  # (hidden, in)
        self.w2.requires_grad_()  # (out, hidden)

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        # forward
        h = (
            self.w1 @ self.x
        ).relu()  # (hidden, rows): clamp's values, but at exactly 0 the slope of clamp is 1
        v = self.w2 @ h  # (out, rows)
        loss = (v - self.y).pow(2).sum()  # ()
        # backward
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        self.gradients = found(self.weights)  # (hidden, in), (out, hidden)
        # update
        with torch.no_grad():  # a leaf that is recorded must not change in place: torch raises
            self.w1 -= self.learning_rate * self.gradients["w1"]
            self.w2 -= self.learning_rate * self.gradients["w2"]
        self.w1.grad = self.w2.grad = (
            None  # without this nothing raises, and the next gradients are added to these
        )
        return loss.item()


def sequential(
    in_features: int, hidden_features: int, out_features: int, seed: int = 0
) -> nn.Sequential:
    """Chain named layers (net.linear1 is also net[0]), and fill their weights with torch.nn.init.

    With a = sqrt(5) the draw is nn.Linear's own: uniform within 1 / sqrt(in). He's draw for ReLU is sqrt(6) times as
    wide, and from there the update by hand, at 1e-3 on a summed loss, diverges or stalls.
    """
    linear1 = nn.Linear(in_features, hidden_features)  # weight (hidden, in), bias (hidden,)
    linear2 = nn.Linear(hidden_features, out_features)  # weight (out, hidden), bias (out,)
    generator = torch.Generator().manual_seed(seed)
    for layer in (linear1, linear2):
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict(linear1=linear1, relu=nn.ReLU(), linear2=linear2))


def named(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of the two layers by their names here."""
    return dict(zip(("w1", "b1", "w2", "b2"), net.parameters(), strict=True))


class Sequential(Form):
    """The network as a chain of layers.

    Replaces the weights and the forward lines by nn.Linear and nn.ReLU, the loss by torch's. By hand: the update, now a
    loop over whatever parameters there are, and zeroing.
    """

    name, by_hand = "sequential", "update, zeroing"
    start: ClassVar[Start] = "initialised"
    rate = 1e-3
    weights: dict[str, Tensor]

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        self.x = torch.tensor(setup.x, dtype=dtype)  # (rows, in): from here on a row is a row
        self.y = torch.tensor(setup.y, dtype=dtype)  # (rows, out)
        self.net = self.network(self.x.shape[1], len(setup.weights["w1"]), self.y.shape[1]).to(
            dtype
        )
        self.weights = named(self.net)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(torch.from_numpy(setup.weights[name]))
        self.learning_rate = setup.learning_rate

    def network(self, in_features: int, hidden_features: int, out_features: int) -> nn.Module:
        """Make the network; the weights of the Setup follow."""
        return sequential(in_features, hidden_features, out_features)

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        # forward
        v = self.net(self.x)  # (rows, out)
        loss = nn.functional.mse_loss(v, self.y, reduction="sum")  # ()
        # backward
        self.net.zero_grad()  # of the last step
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        self.gradients = found(self.weights)  # each of the shape of its weight
        # update
        self.update(self.gradients)
        return loss.item()

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """Descend: against the gradient, in proportion to it."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight -= self.learning_rate * gradients[name]


class NumPyAdam(NumPy):
    """What the last two forms take from the library, by hand: Adam (Kingma and Ba 2015, algorithm 1), their oracle.

    Replaces the gradient in the update by its running mean, over the root of the running mean of its square.
    """

    name, by_hand = "numpy adam", "gradients, update"
    start: ClassVar[Start] = "initialised"
    rate = 1e-3
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.mean = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.square = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.count = 0

    def update(self, gradients: Arrays) -> None:
        """Move each weight by about the learning rate, however steep the slope."""
        self.count += 1
        for name, gradient in gradients.items():
            self.mean[name] = self.beta1 * self.mean[name] + (1 - self.beta1) * gradient
            self.square[name] = self.beta2 * self.square[name] + (1 - self.beta2) * gradient**2
            mean = self.mean[name] / (
                1 - self.beta1**self.count
            )  # as they began at 0, they are too small by this
            square = self.square[name] / (1 - self.beta2**self.count)
            self.weights[name] -= self.learning_rate * mean / (np.sqrt(square) + self.epsilon)


class Optim(Sequential):
    """Sequential with an optimizer.

    Replaces the update by torch.optim.Adam. By hand: the order of the calls: forward, zero_grad, backward, step.
    """

    name, by_hand = "optim", "order of calls"

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(setup, dtype)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=self.learning_rate)

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """Let Adam read each parameter's .grad and move it."""
        self.adam.step()


class Module(Optim):
    """The network as a class: TwoLayerNet, in model/net.py.

    Replaces the chain of layers by a forward method, which may do what a chain cannot: branch, loop, take two inputs.
    By hand: that method, and the order of the calls.
    """

    name, by_hand = "module", "forward, order"

    def network(self, in_features: int, hidden_features: int, out_features: int) -> nn.Module:
        """Make the network; the weights of the Setup follow."""
        return TwoLayerNet(in_features, hidden_features, out_features)


FORMS: tuple[type[Form], ...] = (NumPy, Manual, Autograd, Sequential, NumPyAdam, Optim, Module)


def float64(values: Mapping[str, Tensor | FloatArray]) -> Arrays:
    """Copy weights or gradients to float64."""
    arrays = {
        name: value.detach().numpy() if isinstance(value, Tensor) else value
        for name, value in values.items()
    }
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def reference(form: type[Form], seed: int) -> Setup:
    """Draw the reference set-up of a form: numbers of float32, so that all forms begin at the same weights."""
    random = np.random.default_rng(seed)
    shapes = (ROWS, IN), (ROWS, OUT), (HIDDEN, IN), (OUT, HIDDEN)
    x, y, w1, w2 = (
        random.standard_normal(shape, np.float32).astype(np.float64) for shape in shapes
    )
    if form.start == "normal":
        return Setup(x, y, {"w1": w1, "w2": w2}, form.rate)
    return Setup(x, y, float64(named(sequential(IN, HIDDEN, OUT, seed))), form.rate)
