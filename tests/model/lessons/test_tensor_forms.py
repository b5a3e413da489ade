"""model.lessons.tensor_forms: the primer of autograd."""

import pytest

from model.lessons.tensor_forms import leaf_gradients, primer


def test_primer() -> None:
    """At x=1, w=2, b=3: y=5, dx=2, dw=1, db=1; y is not a leaf and keeps no gradient."""
    tensors = primer()
    values = {name: tensor.item() for name, tensor in tensors.items()}
    assert {"x": 1, "w": 2, "b": 3, "y": 5} == values
    y = tensors.pop("y")
    slopes = {name: slope.item() for name, slope in leaf_gradients(tensors).items()}
    assert {"x": 2, "w": 1, "b": 1} == slopes
    assert not y.is_leaf
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None
