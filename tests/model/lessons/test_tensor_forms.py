"""model.lessons.tensor_forms: the facts about autograd that the lessons state."""

import pytest
import torch
from torch import Tensor

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


def test_clamp_equals_relu_except_for_the_slope_at_zero() -> None:
    """clamp(min=0) and relu have the same values; at exactly 0 the slopes are 1 and 0."""
    clamped = torch.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    rectified = clamped.detach().clone().requires_grad_()
    assert torch.equal(clamped.clamp(min=0), rectified.relu())
    for values in (clamped.clamp(min=0), rectified.relu()):
        values.sum().backward()  # type: ignore[no-untyped-call] # torch's
    slopes = leaf_gradients({"clamp": clamped, "relu": rectified})
    assert ([0, 1, 1, 1], [0, 0, 0, 1]) == (slopes["clamp"].tolist(), slopes["relu"].tolist())


def test_leaf_changes_in_place_only_without_recording() -> None:
    """A leaf that requires a gradient cannot be changed in place, except within no_grad."""
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        w -= 0.1
    with torch.no_grad():
        w -= 0.1
    torch.testing.assert_close(torch.full((2,), 0.9), w.detach())


def test_gradients_accumulate() -> None:
    """backward() adds to .grad: the second gradient is doubled, unless the first was removed."""
    w = torch.tensor([1.0, -2.0], requires_grad=True)

    def gradient() -> Tensor:
        w.square().sum().backward()  # type: ignore[no-untyped-call] # torch's
        return leaf_gradients({"w": w})["w"].clone()

    assert [2, -4] == gradient().tolist()
    assert [4, -8] == gradient().tolist()
    w.grad = None
    assert [2, -4] == gradient().tolist()
