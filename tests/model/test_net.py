"""Tests of model.net: the network and the scaling of its inputs and outputs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.net import ScaledClassifier, ScaledRegressor, TwoLayerNet

UNIT = 2.0**-24
"""Unit roundoff of float32."""
TINY = 2.0**-149
"""Smallest positive number of float32."""
RNG = np.random.default_rng(0)
X = torch.tensor(RNG.normal([2000, 20_000, 0.5, 0], [10, 300, 0.1, 1], (20, 4)).astype(np.float32))
"""Raw rows, (20, 4): a year, Unix days, a share, and noise."""
SHIFT, SCALE = X.mean(dim=0), 1 / X.std(dim=0)


def new_net(out_features: int = 3) -> TwoLayerNet:
    """Make a network of 4 inputs and 5 hidden units."""
    torch.manual_seed(0)
    return TwoLayerNet(4, 5, out_features)


float32s = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None)
@given(float32s, float32s, st.floats(0, 2.0**20, width=32))
def test_standardise_rounds_twice(value: float, shift: float, scale: float) -> None:
    """standardise() computes (x - shift) * scale with one rounding for each operation."""
    net = ScaledClassifier(TwoLayerNet(1, 1, 2), torch.tensor([shift]), torch.tensor([scale]))
    exact = (value - shift) * scale
    error = abs(exact - net.standardise(torch.tensor([[value]])).item())
    assert error <= (2 * UNIT + UNIT**2) * abs(exact) + TINY


def test_classifier_equals_float64() -> None:
    """Logits, probabilities and labels equal those that NumPy computes in float64."""
    net = ScaledClassifier(new_net(), SHIFT, SCALE)
    w = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    standardised = (X.double().numpy() - w["shift"]) * w["scale"]
    hidden = np.maximum(standardised @ w["net.linear1.weight"].T + w["net.linear1.bias"], 0)
    expected = hidden @ w["net.linear2.weight"].T + w["net.linear2.bias"]
    logits, probabilities, label = (tensor.detach().numpy() for tensor in net(X))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    powers = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    assert np.array_equal(logits.argmax(axis=1), label)
    assert (np.float32, np.float32, np.int64) == (logits.dtype, probabilities.dtype, label.dtype)


def test_regressor_inverts_the_scaling_of_its_targets() -> None:
    """forward() applies the inverse of the training targets' scaling to the scores."""
    output_scale, output_shift = torch.tensor([1e3, 0.5]), torch.tensor([2e5, -1.0])
    net = ScaledRegressor(new_net(2), SHIFT, SCALE, output_scale, output_shift)
    y = torch.stack([torch.linspace(1e5, 3e5, 20), torch.linspace(-3, 1, 20)], dim=1).double()
    targets = net.training_targets(y)
    assert torch.float32 == targets.dtype
    restored = targets * output_scale + output_shift
    torch.testing.assert_close(restored, y.float(), rtol=4 * UNIT, atol=1e3 * UNIT)
    assert torch.equal(net.scores(X) * output_scale + output_shift, net(X))
