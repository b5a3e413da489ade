"""Tests of model.lessons.module_forms: layer names and weight initialisation."""

import numpy as np
import pytest

from model.lessons.formulations import float64
from model.lessons.module_forms import parameters_by_name, sequential
from model.net import TwoLayerNet


def test_layers_by_index_and_by_name() -> None:
    """Each layer has an index and a name, and the parameter names are those of TwoLayerNet."""
    net = sequential(5, 4, 3)
    assert (net[0], net[1], net[2]) == (net.linear1, net.relu, net.linear2)
    assert list(TwoLayerNet(5, 4, 3).state_dict()) == list(net.state_dict())
    shapes = [tuple(weight.shape) for weight in parameters_by_name(net).values()]
    assert [(4, 5), (4,), (3, 4), (3,)] == shapes


def test_weights_are_uniform() -> None:
    """Weights are uniform within 1 / sqrt(in_features), and depend only on the seed."""
    weights, same, other = (
        float64(parameters_by_name(sequential(400, 300, 200, seed))) for seed in (0, 0, 1)
    )
    for name, inputs in (("w1", 400), ("w2", 300)):
        assert np.abs(weights[name]).max() <= inputs**-0.5
        assert pytest.approx((3 * inputs) ** -0.5, rel=0.01) == weights[name].std()
        assert np.array_equal(weights[name], same[name])
        assert not np.array_equal(weights[name], other[name])
    assert not weights["b1"].any()
    assert not weights["b2"].any()
