"""Tests of model.lessons.formulations: gradients and trajectories of every form."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.lessons.comparison import FORMS, reference
from model.lessons.formulations import Arrays, Form, Setup, float64
from model.lessons.module_forms import Module, Optim, Sequential
from model.lessons.numpy_forms import NumPy, NumPyAdam
from model.lessons.tensor_forms import Autograd, Manual

MakeForm = Callable[[Setup], Form]
DOUBLE: dict[str, MakeForm] = {
    "numpy": NumPy,
    "numpy adam": NumPyAdam,
    "manual": lambda setup: Manual(setup, torch.float64),
    "autograd": lambda setup: Autograd(setup, torch.float64),
    "sequential": lambda setup: Sequential(setup, torch.float64),
    "optim": lambda setup: Optim(setup, torch.float64),
    "module": lambda setup: Module(setup, torch.float64),
}
"""Constructors of every form in float64, in which equal formulas agree to many digits."""


def make_setup(name: str, learning_rate: float = 1e-3) -> Setup:
    """Make 16 rows and a network of 12 -> 8 -> 3 units, with biases if the form has them."""
    random = np.random.default_rng(0)
    x, y, w1, w2 = (random.standard_normal(shape) for shape in ((16, 12), (16, 3), (8, 12), (3, 8)))
    b1, b2 = random.standard_normal(8), random.standard_normal(3)
    weights = {"w1": w1 / 4, "b1": b1, "w2": w2 / 3, "b2": b2}
    if name in ("manual", "autograd"):
        del weights["b1"], weights["b2"]
    return Setup(x, y, weights, learning_rate)


def defined_loss(setup: Setup, weights: Arrays) -> float:
    """Return the sum of squared errors, computed row by row from its definition."""
    total = 0.0
    for x, y in zip(setup.x, setup.y, strict=True):
        h = np.maximum(weights["w1"] @ x + weights.get("b1", 0), 0)
        total += float(((weights["w2"] @ h + weights.get("b2", 0) - y) ** 2).sum())
    return total


def finite_differences(setup: Setup, change: float) -> Arrays:
    """Return the gradient of defined_loss by central differences.

    The loss is quadratic in each single weight if no hidden value crosses the kink of ReLU, so
    central differences have no error except rounding.
    """
    weights = setup.weights
    hidden = setup.x @ weights["w1"].T + weights.get("b1", 0)
    assert change * max(1, np.abs(setup.x).max()) < np.abs(hidden).min(), "too near the kink"
    gradients = {}
    for name, values in weights.items():
        gradients[name] = np.empty_like(values)
        for index in np.ndindex(values.shape):
            losses = []
            for sign in (1, -1):
                moved = values.copy()
                moved[index] += sign * change
                losses.append(defined_loss(setup, weights | {name: moved}))
            gradients[name][index] = (losses[0] - losses[1]) / (2 * change)
    return gradients


@pytest.mark.parametrize("name", DOUBLE)
def test_gradients_equal_finite_differences(name: str) -> None:
    """In float64 the first loss and gradients equal those of defined_loss up to rounding.

    The loss, about 100, has a rounding error of 1e-14; division by the change makes it 1e-10.
    """
    setup = make_setup(name)
    form = DOUBLE[name](setup)
    assert pytest.approx(defined_loss(setup, setup.weights), rel=1e-13) == form.step()
    expected, gradients = finite_differences(setup, 1e-4), float64(form.gradients)
    assert list(expected) == list(gradients) == list(form.weights)
    for weight, values in expected.items():
        np.testing.assert_allclose(gradients[weight], values, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "twin", "learning_rate"),
    [
        ("manual", "numpy", 2e-3),
        ("autograd", "numpy", 2e-3),
        ("sequential", "numpy", 2e-3),
        ("optim", "numpy adam", 1e-2),
        ("module", "numpy adam", 1e-2),
    ],
)
def test_equal_formulas_have_equal_trajectories(name: str, twin: str, learning_rate: float) -> None:
    """Forms of the same algorithm have equal losses and final weights over 100 steps.

    In float64 a step has a rounding error of about 1e-15, and 100 steps stay far below 1e-10.
    """
    setup = make_setup(name, learning_rate)
    form, reference_form = DOUBLE[name](setup), DOUBLE[twin](setup)
    losses = [form.step() for _ in range(100)]
    expected = [reference_form.step() for _ in range(100)]
    assert expected[-1] < 0.5 * expected[0], "the loss should have decreased"
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    weights = float64(form.weights)
    for weight, values in float64(reference_form.weights).items():
        np.testing.assert_allclose(weights[weight], values, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DOUBLE)
def test_slope_at_the_kink_is_zero(name: str) -> None:
    """If every pre-activation is exactly 0, no form passes a gradient through ReLU."""
    setup = make_setup(name)
    zero = {
        weight: np.zeros_like(setup.weights[weight]) for weight in setup.weights if "1" in weight
    }
    form = DOUBLE[name](Setup(setup.x, setup.y, setup.weights | zero, 1e-3))
    form.step()
    gradients = float64(form.gradients)
    assert not any(gradients[weight].any() for weight in zero)


@pytest.mark.parametrize("form", FORMS)
def test_reference_is_the_same_for_all_forms(form: type[Form]) -> None:
    """All forms get the same rows, forms with equal `start` get equal weights, and all learn."""
    setup = reference(form, 7)
    other = reference(NumPy if form.start == "normal" else NumPyAdam, 7)
    arrays = setup.x, setup.y, setup.weights["w1"], setup.weights["w2"]
    assert [(64, 1000), (64, 10), (100, 1000), (10, 100)] == [array.shape for array in arrays]
    others = other.x, other.y, *other.weights.values()
    for array, same in zip((setup.x, setup.y, *setup.weights.values()), others, strict=True):
        assert np.array_equal(array, same)
        assert np.array_equal(array, array.astype(np.float32))
    assert not np.array_equal(setup.x, reference(form, 8).x)
    working = form(setup)
    losses = [working.step() for _ in range(10)]
    assert losses[-1] < 0.2 * losses[0]
