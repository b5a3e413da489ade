"""The forms that use tensors: with gradients derived by hand, and with autograd."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from model.lessons.formulations import Form, Setup


class Manual(Form):
    """NumPy with its arrays replaced by tensors, which can be float32 and on a GPU."""

    name, by_hand = "manual", "gradients, update"
    start = "normal"
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
        da = dh.masked_fill(a <= 0, 0)  # (hidden, rows): the slope of ReLU is 0 there
        dw1 = da @ self.x.T  # (hidden, in)
        self.gradients = {"w1": dw1, "w2": dw2}
        # update, in place
        self.w1 -= self.learning_rate * dw1
        self.w2 -= self.learning_rate * dw2
        return loss.item()  # sync point: Python waits for the GPU


def primer() -> dict[str, Tensor]:
    """Return x=1, w=2, b=3 and y = w x + b; .grad of x, w and b holds the derivative of y.

    A tensor made with requires_grad is a leaf, and autograd records what is computed from it.
    y.backward() goes back through the record, and adds dy/dleaf to the .grad of each leaf. y is not
    a leaf, so it receives no .grad.
    """
    x = torch.tensor(1.0, requires_grad=True)  # ()
    w = torch.tensor(2.0, requires_grad=True)  # ()
    b = torch.tensor(3.0, requires_grad=True)  # ()
    y = w * x + b  # ()
    y.backward()  # type: ignore[no-untyped-call] # torch ships no annotation
    return {"x": x, "w": w, "b": b, "y": y}


def leaf_gradients(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the .grad of each weight, which backward() has filled."""
    return {name: cast(Tensor, weight.grad) for name, weight in weights.items()}


class Autograd(Manual):
    """Manual with the hand-derived gradients replaced by requires_grad and loss.backward().

    The author must keep the update out of the record, and then set the gradients to zero,
    because backward() adds to them.
    """

    name, by_hand = "autograd", "update, zeroing"

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(setup, dtype)
        self.w1.requires_grad_()  # (hidden, in)
        self.w2.requires_grad_()  # (out, hidden)

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        # forward
        # relu and clamp return the same values; at exactly 0, relu has slope 0, and clamp slope 1.
        h = (self.w1 @ self.x).relu()  # (hidden, rows)
        v = self.w2 @ h  # (out, rows)
        loss = (v - self.y).pow(2).sum()  # ()
        # backward
        loss.backward()  # type: ignore[no-untyped-call] # torch ships no annotation
        self.gradients = leaf_gradients(self.weights)  # (hidden, in), (out, hidden)
        # update
        with torch.no_grad():  # torch forbids in-place changes of a recorded leaf
            self.w1 -= self.learning_rate * self.gradients["w1"]
            self.w2 -= self.learning_rate * self.gradients["w2"]
        # Without this line, no error is raised, but the next gradients are added to these.
        self.w1.grad = self.w2.grad = None
        return loss.item()
