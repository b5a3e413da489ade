"""model.formulations: the forms held to float64, to each other, and to what goes wrong without their precautions."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from model.lessons.formulations import (
    FORMS,
    IN,
    Arrays,
    Autograd,
    Form,
    Manual,
    Module,
    NumPy,
    NumPyAdam,
    Optim,
    Sequential,
    Setup,
    float64,
    found,
    named,
    oracle,
    primer,
    reference,
    sequential,
)
from model.net import TwoLayerNet
from model.table.dataset import FloatArray

Make = Callable[[Setup], Form]
DOUBLE: dict[str, Make] = {
    "numpy": NumPy,
    "numpy adam": NumPyAdam,
    "manual": lambda setup: Manual(setup, torch.float64),
    "autograd": lambda setup: Autograd(setup, torch.float64),
    "sequential": lambda setup: Sequential(setup, torch.float64),
    "optim": lambda setup: Optim(setup, torch.float64),
    "module": lambda setup: Module(setup, torch.float64),
}
"""Every form in float64, where forms that are mathematically the same agree to far more than float32's digits."""
WITHOUT_BIASES = ("manual", "autograd")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Cores that other tests share make threads slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(before)


def small(name: str, learning_rate: float = 1e-3) -> Setup:
    """Make a problem of 16 rows, 12 -> 8 -> 3, with biases where the form has them."""
    random = np.random.default_rng(0)
    x, y, w1, w2 = (random.standard_normal(shape) for shape in ((16, 12), (16, 3), (8, 12), (3, 8)))
    weights = {
        "w1": w1 / 4,
        "b1": random.standard_normal(8),
        "w2": w2 / 3,
        "b2": random.standard_normal(3),
    }
    if name in WITHOUT_BIASES:
        weights = {"w1": weights["w1"], "w2": weights["w2"]}
    return Setup(x, y, weights, learning_rate)


def loss(setup: Setup, weights: Arrays) -> float:
    """Compute the loss from its definition, a row at a time."""
    total = 0.0
    for x, y in zip(setup.x, setup.y, strict=True):
        h = np.maximum(weights["w1"] @ x + weights.get("b1", 0), 0)
        total += float(((weights["w2"] @ h + weights.get("b2", 0) - y) ** 2).sum())
    return total


def finite_differences(setup: Setup, step: float) -> Arrays:
    """Differentiate loss() by every weight, centrally.

    As long as no hidden value crosses ReLU's kink the loss is quadratic in each single weight, and then central
    differences are exact but for rounding.
    """
    weights = setup.weights
    hidden = setup.x @ weights["w1"].T + weights.get("b1", 0)
    assert step * max(1, np.abs(setup.x).max()) < np.abs(hidden).min(), "too near the kink"
    gradients = {}
    for name, values in weights.items():
        gradients[name] = np.empty_like(values)
        for index in np.ndindex(values.shape):
            losses = []
            for sign in (1, -1):
                moved = values.copy()
                moved[index] += sign * step
                losses.append(loss(setup, weights | {name: moved}))
            gradients[name][index] = (losses[0] - losses[1]) / (2 * step)
    return gradients


@pytest.mark.parametrize("name", DOUBLE)
def test_gradients_are_finite_differences(name: str) -> None:
    """In float64 the first step's loss and gradients are those of the loss's definition, to its rounding."""
    setup = small(name)
    form = DOUBLE[name](setup)
    assert pytest.approx(loss(setup, setup.weights), rel=1e-13) == form.step()
    expected, gradients = finite_differences(setup, 1e-4), float64(form.gradients)
    assert list(expected) == list(gradients) == list(form.weights)
    for (
        weight,
        values,
    ) in expected.items():  # the loss, about 100, rounds to 1e-14: 1e-10 after division by the step
        np.testing.assert_allclose(gradients[weight], values, rtol=1e-8, atol=1e-9)


def magnitudes(setup: Setup) -> Arrays:
    """Return, for each gradient, the sum of the magnitudes of its terms: what rounding errors are relative to."""
    x, y = np.abs(setup.x.T), np.abs(setup.y.T)
    w1, w2 = np.abs(setup.weights["w1"]), np.abs(setup.weights["w2"])
    b1 = np.abs(setup.weights.get("b1", np.zeros(len(w1))))[:, None]
    b2 = np.abs(setup.weights.get("b2", np.zeros(len(w2))))[:, None]
    h = w1 @ x + b1
    dv = 2 * (w2 @ h + b2 + y)
    da = w2.T @ dv
    return {"w1": da @ x.T, "b1": da.sum(axis=1), "w2": dv @ h.T, "b2": dv.sum(axis=1)}


@pytest.mark.parametrize("form", [form for form in FORMS if not issubclass(form, NumPy)])
def test_float32_gradients_are_within_the_rounding_bound(form: type[Form]) -> None:
    """On the reference set-up each element is within gamma_n of float64's (Higham, 3.1), relative to its terms.

    A term goes through a sum over the inputs, the hidden values, the outputs and the rows, and through hidden values
    once more in w2's gradient; n counts these and the operations beside. No hidden value here is within rounding of
    the kink.
    """
    setup = reference(form, 0)
    rows, (hidden, inputs), outputs = len(setup.x), setup.weights["w1"].shape, setup.y.shape[1]
    roundings = (2 * inputs + hidden + outputs + rows + 10) * 2.0**-24
    gamma = roundings / (1 - roundings)
    a = setup.x @ setup.weights["w1"].T + setup.weights.get("b1", 0)
    working = form(setup)
    working.step()
    expected, gradients = oracle(setup.x.T, setup.y.T, setup.weights)[1], float64(working.gradients)
    assert np.abs(a).min() > 1e-6 * np.abs(a).max()
    bound = magnitudes(setup)
    for name in expected:
        assert (np.abs(expected[name] - gradients[name]) <= gamma * bound[name]).all(), name


def fitted(name: str, setup: Setup, steps: int) -> tuple[list[float], Arrays]:
    """Take steps in float64; return the losses and the last weights."""
    form = DOUBLE[name](setup)
    return [form.step() for _ in range(steps)], float64(form.weights)


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
def test_same_weights_same_trajectory(name: str, twin: str, learning_rate: float) -> None:
    """Forms that are mathematically the same go through the same losses to the same weights.

    In float64, where a step rounds to about 1e-15: 100 steps stay far below 1e-10, unless a formula differs.
    """
    setup = small(name, learning_rate)
    expected, actual = fitted(twin, setup, 100), fitted(name, setup, 100)
    assert expected[0][-1] < 0.5 * expected[0][0], "the fit should have moved"
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-10)
    for weight, values in expected[1].items():
        np.testing.assert_allclose(actual[1][weight], values, rtol=1e-10, atol=1e-10)


def test_trajectories_tell_formulas_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance above lets rounding through and no more: not even an epsilon of 1e-7 for 1e-8 in Adam."""
    setup = small("optim", 1e-2)
    expected = np.array(fitted("optim", setup, 100)[0])
    monkeypatch.setattr(NumPyAdam, "epsilon", 1e-7)
    assert np.abs(np.array(fitted("numpy adam", setup, 100)[0]) / expected - 1).max() > 1e-8


@pytest.mark.parametrize("name", DOUBLE)
def test_slope_at_the_kink_is_zero(name: str) -> None:
    """Where every hidden value is exactly 0, nothing flows back through ReLU, in any form."""
    setup = small(name)
    dead = {
        key: np.zeros_like(values) if key in ("w1", "b1") else values
        for key, values in setup.weights.items()
    }
    form = DOUBLE[name](Setup(setup.x, setup.y, dead, 1e-3))
    form.step()
    gradients = float64(form.gradients)
    assert not gradients["w1"].any()
    assert not gradients.get("b1", np.zeros(1)).any()


def test_clamp_is_relu_but_for_the_slope_at_zero() -> None:
    """clamp(min=0) and relu agree in every value and slope, except that at exactly 0 the slopes are 1 and 0."""
    clamped = torch.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    rectified = clamped.detach().clone().requires_grad_()
    assert torch.equal(clamped.clamp(min=0), rectified.relu())
    for values in (clamped.clamp(min=0), rectified.relu()):
        values.sum().backward()  # type: ignore[no-untyped-call] # torch's
    slopes = found({"clamp": clamped, "relu": rectified})
    assert ([0, 1, 1, 1], [0, 0, 0, 1]) == (slopes["clamp"].tolist(), slopes["relu"].tolist())


def test_primer() -> None:
    """At x=1, w=2, b=3: y=5, dx=2, dw=1, db=1; y is no leaf, keeps no gradient, and torch warns who asks for it."""
    tensors = primer()
    assert {"x": 1, "w": 2, "b": 3, "y": 5} == {
        name: tensor.item() for name, tensor in tensors.items()
    }
    y = tensors.pop("y")
    assert {"x": 2, "w": 1, "b": 1} == {
        name: slope.item() for name, slope in found(tensors).items()
    }
    assert not y.is_leaf
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None


def test_pitfall_update_of_a_recorded_leaf() -> None:
    """A leaf that requires a gradient cannot be changed in place without no_grad; inside it can."""
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(
        RuntimeError,
        match="a leaf Variable that requires grad is being used in an in-place operation",
    ):
        w -= 0.1
    with torch.no_grad():
        w -= 0.1
    assert w.requires_grad
    torch.testing.assert_close(torch.full((2,), 0.9), w.detach())


def test_pitfall_gradients_accumulate() -> None:
    """backward() adds to what it finds: the second gradient is doubled, unless the first was forgotten."""
    w = torch.tensor([1.0, -2.0], requires_grad=True)

    def gradient() -> Tensor:
        w.square().sum().backward()  # type: ignore[no-untyped-call] # torch's
        return found({"w": w})["w"].clone()

    assert [2, -4] == gradient().tolist()
    assert [4, -8] == gradient().tolist()
    w.grad = None
    assert [2, -4] == gradient().tolist()


def losses(form: type[Form], setup: Setup, steps: int) -> FloatArray:
    """Take steps; return the loss before each."""
    working = form(setup)
    return np.array([working.step() for _ in range(steps)])


class Forgetful(Sequential):
    """Sequential that never zeroes."""

    def network(self, in_features: int, hidden_features: int, out_features: int) -> nn.Module:
        """Make a network whose zero_grad does nothing."""
        net = super().network(in_features, hidden_features, out_features)
        net.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
        return net


def test_pitfall_in_a_fit() -> None:
    """Without zeroing the first update is right, the second is not, and nothing raises."""
    setup = small("sequential")
    zeroing, forgetful = losses(Sequential, setup, 3), losses(Forgetful, setup, 3)
    assert zeroing[:2].tolist() == forgetful[:2].tolist()  # each is measured before its update
    assert zeroing[2] != forgetful[2]


def test_layers_by_index_and_by_name() -> None:
    """A layer of the chain is the same object either way, and its names are those of TwoLayerNet."""
    net = sequential(5, 4, 3)
    assert (net[0], net[1], net[2]) == (net.linear1, net.relu, net.linear2)
    assert list(TwoLayerNet(5, 4, 3).state_dict()) == list(net.state_dict())
    assert [(4, 5), (4,), (3, 4), (3,)] == [tuple(weight.shape) for weight in named(net).values()]


def test_initialised_weights_are_the_draw_of_linear() -> None:
    """Uniform within 1 / sqrt(in), whose standard deviation is 1 / sqrt(3 in); no bias; the seed alone decides."""
    weights, same, other = (float64(named(sequential(400, 300, 200, seed))) for seed in (0, 0, 1))
    for name, inputs in (("w1", 400), ("w2", 300)):
        assert np.abs(weights[name]).max() <= inputs**-0.5
        assert pytest.approx((3 * inputs) ** -0.5, rel=0.01) == weights[name].std()
        assert np.array_equal(weights[name], same[name])
        assert not np.array_equal(weights[name], other[name])
    assert not weights["b1"].any()
    assert not weights["b2"].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_scale_of_the_draw_decides(seed: int) -> None:
    """With sequential()'s draw the hand-made update converges at 1e-3; with He's it stalls or diverges."""
    setup = reference(Sequential, seed)
    wide = {name: math.sqrt(6) * values for name, values in setup.weights.items()}
    assert losses(Sequential, setup, 60)[-1] < 1e-1
    assert not losses(Sequential, Setup(setup.x, setup.y, wide, setup.learning_rate), 60)[-1] < 10


@pytest.mark.parametrize("form", FORMS)
def test_reference_is_drawn_for_all_alike(form: type[Form]) -> None:
    """All forms see the same float32 rows, and those with the same start the same weights; each begins to learn."""
    setup = reference(form, 7)
    other = reference(NumPy if form.start == "normal" else NumPyAdam, 7)
    assert ((64, 1000), (64, 10), (100, 1000), (10, 100)) == tuple(
        values.shape for values in (setup.x, setup.y, setup.weights["w1"], setup.weights["w2"])
    )
    assert IN == setup.x.shape[1]
    pairs = zip(
        (setup.x, setup.y, *setup.weights.values()),
        (other.x, other.y, *other.weights.values()),
        strict=True,
    )
    for ours, theirs in pairs:
        assert np.array_equal(ours, theirs)
        assert np.array_equal(ours, ours.astype(np.float32))
    assert not np.array_equal(setup.x, reference(form, 8).x)
    found = losses(form, setup, 10)
    assert found[-1] < 0.2 * found[0]
