"""Tests of model.fit.devices: the choice of the device and of the number of threads."""

import re

import pytest
import torch

from model.errors import DataError
from model.fit.devices import PRODUCTS_PER_THREAD, find_device, thread_count
from model.net import TwoLayerNet


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A requested device is used, and a missing one is an error; auto prefers CUDA to the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = "device: this PyTorch finds no CUDA device; use auto or cpu"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        find_device("cuda")
    assert torch.device("cpu") == find_device("auto") == find_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch.device("cuda") == find_device("auto") == find_device("cuda")
    assert torch.device("cpu") == find_device("cpu")


@pytest.mark.parametrize(
    ("hidden_features", "batch_size", "max_threads", "expected"),
    [(100, 64, 8, 1), (1, 1, 1, 1), (1000, 64, 8, 4), (1000, 64, 2, 2), (1000, 6400, 8, 8)],
)
def test_threads_grow_with_the_step(
    hidden_features: int, batch_size: int, max_threads: int, expected: int
) -> None:
    """A step gets one thread, and one more for every PRODUCTS_PER_THREAD products."""
    net = TwoLayerNet(990, hidden_features, 10)
    assert expected == thread_count(net, batch_size, max_threads)
    assert (expected - 1) * PRODUCTS_PER_THREAD <= 1000 * hidden_features * batch_size
