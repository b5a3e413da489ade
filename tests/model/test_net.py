"""model.net: the network, and the scaling that travels with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet

U = 2.0**-24
"""float32's unit roundoff."""
TINY = 2.0**-149
"""float32's smallest positive number."""


def inner(seed: int = 0, out_features: int = 3) -> TwoLayerNet:
    """Make a network of 4 inputs and 5 hidden units."""
    torch.manual_seed(seed)
    return TwoLayerNet(4, 5, out_features)


def scores64(net: ScaledNet, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Evaluate a scaled net in float64 NumPy, from its tensors by name."""
    w = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    standardised = (x.astype(np.float64) - w["shift"]) * w["scale"]
    hidden = np.maximum(standardised @ w["net.linear1.weight"].T + w["net.linear1.bias"], 0)
    found: NDArray[np.float64] = hidden @ w["net.linear2.weight"].T + w["net.linear2.bias"]
    return found


@pytest.fixture
def x() -> Tensor:
    """Raw rows, (20, 4): a year, Unix days, a share, and a column of noise."""
    rng = np.random.default_rng(0)
    columns = (
        rng.normal(2000, 10, 20),
        rng.normal(20_000, 300, 20),
        rng.uniform(size=20),
        rng.normal(size=20),
    )
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


@pytest.fixture
def scaling(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the reciprocal spread of x, each (4,)."""
    return x.mean(dim=0), 1 / x.std(dim=0)


def test_parameters_are_named_for_their_layers() -> None:
    """The names that files and other runtimes rely on, with their shapes."""
    shapes = {
        "linear1.weight": (5, 4),
        "linear1.bias": (5,),
        "linear2.weight": (3, 5),
        "linear2.bias": (3,),
    }
    assert shapes == {name: tuple(tensor.shape) for name, tensor in inner().state_dict().items()}


@settings(deadline=None)
@given(
    st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.floats(0, 2.0**20, width=32)
)  # each a float32, so the float64 formula is exact to within its own, far smaller, rounding
def test_standardise_is_the_formula_within_rounding(
    value: float, shift: float, scale: float
) -> None:
    """(x - shift) * scale, with one rounding for each of the two operations."""
    net = ScaledClassifier(TwoLayerNet(1, 1, 2), torch.tensor([shift]), torch.tensor([scale]))
    exact = (value - shift) * scale
    assert (
        abs(exact - net.standardise(torch.tensor([[value]])).item())
        <= (2 * U + U**2) * abs(exact) + TINY
    )


def test_constant_column_is_not_seen(x: Tensor, scaling: tuple[Tensor, Tensor]) -> None:
    """A column of scale 0 changes no bit of the scores, whatever stands in it."""
    shift, scale = scaling
    scale[1] = 0
    net = ScaledClassifier(inner(), shift, scale)
    other = x.clone()
    other[:, 1] = torch.linspace(-1e30, 1e30, len(x))
    assert torch.equal(net.scores(x), net.scores(other))


def test_scores_are_those_of_float64(x: Tensor, scaling: tuple[Tensor, Tensor]) -> None:
    """Linear, ReLU, linear: the float64 NumPy evaluation of the same tensors."""
    net = ScaledClassifier(inner(), *scaling)
    np.testing.assert_allclose(
        net.scores(x).detach().numpy(), scores64(net, x.numpy()), rtol=1e-4, atol=1e-4
    )


def test_classifier_answers_follow_from_its_logits(
    x: Tensor, scaling: tuple[Tensor, Tensor]
) -> None:
    """Probabilities are the softmax of the logits, label the index of the largest."""
    net = ScaledClassifier(inner(), *scaling)
    logits, probabilities, label = (tensor.detach().numpy() for tensor in net(x))
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), probabilities, rtol=1e-5)
    assert np.array_equal(logits.argmax(axis=1), label)
    assert (np.float32, np.float32, np.int64) == (logits.dtype, probabilities.dtype, label.dtype)


def test_regressor_undoes_the_scaling_of_its_targets(
    x: Tensor, scaling: tuple[Tensor, Tensor]
) -> None:
    """A net whose scores were its training targets would answer the targets, in their own units."""
    output_scale, output_shift = torch.tensor([1e3, 0.5]), torch.tensor([2e5, -1.0])
    net = ScaledRegressor(inner(out_features=2), *scaling, output_scale, output_shift)
    y = torch.stack([torch.linspace(1e5, 3e5, 20), torch.linspace(-3, 1, 20)], dim=1).double()
    assert torch.float32 == net.training_targets(y).dtype
    torch.testing.assert_close(
        net.training_targets(y) * output_scale + output_shift, y.float(), rtol=4 * U, atol=1e3 * U
    )
    assert torch.equal(net.scores(x) * output_scale + output_shift, net(x))


def test_class_indices_are_trained_on_as_they_are() -> None:
    """Cross-entropy takes the indices themselves."""
    y = torch.tensor([2, 0, 1])
    assert y is ScaledClassifier(inner(), torch.zeros(4), torch.ones(4)).training_targets(y)
