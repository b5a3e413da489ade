"""The same fit written six ways, from gradients derived by hand to nn.Module and an optimizer.

The reference problem is 64 rows of standard-normal noise through Linear -> ReLU -> Linear,
1000 -> 100 -> 10, with the squared error summed over rows and outputs, and all rows in every step.
Read numpy_forms.py, tensor_forms.py and module_forms.py from top to bottom. Each form says what it
replaces and what is still written by hand. NumPy in float64 is the oracle of all others, with which
comparison.py compares them side by side.

All forms share one contract, Form, which makes them comparable at the same weights: w1 of shape
(hidden, in), b1 (hidden,), w2 (out, hidden) and b2 (out,). The forms that start at N(0, 1) have no
biases.

The first forms are column-major: X is (in, rows), one column per row of data. A layer is then W X,
as in a textbook, and the chain rule transposes the product: dW = dA X^T. torch.nn is row-major: x
is (rows, in), and nn.Linear computes x W^T, the same product transposed. Data and activations are
therefore transposed between the two, and weights and gradients are not. The transposition is free,
because `x.T` is a view of the same memory.
"""

import numpy as np

from model.lessons.form import Form, Setup, float64
from model.lessons.module_forms import Module, Optim, Sequential, parameters_by_name, sequential
from model.lessons.numpy_forms import NumPy, NumPyAdam
from model.lessons.tensor_forms import Autograd, Manual

FORMS: tuple[type[Form], ...] = (NumPy, Manual, Autograd, Sequential, NumPyAdam, Optim, Module)
ROWS, IN, HIDDEN, OUT = 64, 1000, 100, 10
"""Shape of the reference problem."""


def reference(form: type[Form], seed: int) -> Setup:
    """Draw the reference problem of a form.

    All values are representable in float32, which lets all forms start at the same weights.
    """
    random = np.random.default_rng(seed)
    shapes = (ROWS, IN), (ROWS, OUT), (HIDDEN, IN), (OUT, HIDDEN)
    x, y, w1, w2 = (
        random.standard_normal(shape, np.float32).astype(np.float64) for shape in shapes
    )
    if form.start == "normal":
        return Setup(x, y, {"w1": w1, "w2": w2}, form.rate)
    initial = parameters_by_name(sequential(IN, HIDDEN, OUT, seed))
    return Setup(x, y, float64(initial), form.rate)
