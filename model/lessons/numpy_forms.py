"""The forms in NumPy, which compute in float64 to check the forms in PyTorch."""

from typing import ClassVar

import numpy as np

from model.lessons.formulations import Arrays, Form, Setup, Start, float64
from model.table.dataset import FloatArray


def oracle(x: FloatArray, y: FloatArray, weights: Arrays) -> tuple[float, Arrays]:
    """Return the loss and its hand-derived gradients; x is (in, rows), and y is (out, rows)."""
    w1, w2 = weights["w1"], weights["w2"]  # (hidden, in), (out, hidden)
    b1 = weights.get("b1", np.zeros(len(w1)))[:, None]  # (hidden, 1)
    b2 = weights.get("b2", np.zeros(len(w2)))[:, None]  # (out, 1)
    # forward
    a = w1 @ x + b1  # (hidden, rows)
    h = np.maximum(a, 0)  # (hidden, rows): ReLU
    v = w2 @ h + b2  # (out, rows)
    loss = float(np.sum((v - y) ** 2))
    # backward, in reverse order; dv is the derivative of the loss with respect to v
    dv = 2 * (v - y)  # (out, rows)
    dw2 = dv @ h.T  # (out, hidden)
    db2 = dv.sum(axis=1)  # (out,)
    dh = w2.T @ dv  # (hidden, rows)
    # The slope of ReLU is 1 above 0, and 0 elsewhere; torch also takes 0 at exactly 0.
    da = dh * (a > 0)  # (hidden, rows)
    dw1 = da @ x.T  # (hidden, in)
    db1 = da.sum(axis=1)  # (hidden,)
    gradients = {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2}
    return loss, {name: gradients[name] for name in weights}


class NumPy(Form):
    """Gradient descent, all of it written by hand."""

    name, by_hand = "numpy", "gradients, update"
    start: ClassVar[Start] = "normal"
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
        """Subtract from each weight the learning rate times its gradient."""
        for name, gradient in gradients.items():
            self.weights[name] -= self.learning_rate * gradient


class NumPyAdam(NumPy):
    """NumPy with gradient descent replaced by Adam (Kingma and Ba 2015, algorithm 1)."""

    name, by_hand = "numpy adam", "gradients, update"
    start = "initialised"
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.mean = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.square = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.count = 0

    def update(self, gradients: Arrays) -> None:
        """Move each weight by about the learning rate, however large or small its gradient is."""
        self.count += 1
        for name, gradient in gradients.items():
            self.mean[name] = self.beta1 * self.mean[name] + (1 - self.beta1) * gradient
            self.square[name] = self.beta2 * self.square[name] + (1 - self.beta2) * gradient**2
            # The running means start at 0; these divisions correct their bias towards 0.
            mean = self.mean[name] / (1 - self.beta1**self.count)
            square = self.square[name] / (1 - self.beta2**self.count)
            self.weights[name] -= self.learning_rate * mean / (np.sqrt(square) + self.epsilon)
