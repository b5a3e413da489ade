"""Tests of model.fit.devices: the device, the number of threads, and the arithmetic."""

import re
from typing import Any

import pytest
import torch

from model.errors import DataError
from model.fit.devices import (
    PRODUCTS_PER_THREAD,
    find_device,
    float32_arithmetic,
    max_threads,
    thread_count,
)
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


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 6),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "8"}, 6),
        ({"OMP_NUM_THREADS": "0"}, 1),
        ({"OMP_NUM_THREADS": "4,2"}, 6),
        ({"LOCAL_WORLD_SIZE": "3", "TORCHELASTIC_RUN_ID": "x"}, 2),
        ({"LOCAL_WORLD_SIZE": "9", "TORCHELASTIC_RUN_ID": "x"}, 1),
        ({"LOCAL_WORLD_SIZE": "3"}, 6),
    ],
)
def test_max_threads(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: int
) -> None:
    """A process uses the cores it may use, shared with torchrun's others, or OMP_NUM_THREADS."""
    monkeypatch.setattr("model.fit.devices.available_cores", lambda: 6)
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert expected == max_threads()


def arithmetic() -> list[Any]:
    """Return the settings of torch that affect float32 products."""
    cuda, mkldnn = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    try:
        precision = torch.get_float32_matmul_precision(), cuda.allow_tf32
    except RuntimeError:  # the backends differ
        precision = None
    return [torch.get_num_threads(), cuda.fp32_precision, mkldnn.fp32_precision, precision]


def permit_tf32_by_backend() -> None:
    """Permit TF32 by the newer of the two interfaces of torch, for one backend only."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "permit",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        permit_tf32_by_backend,
    ],
)
def test_arithmetic_is_float32_and_restored(permit: Any) -> None:
    """TF32 and bfloat16 are off in the block; afterwards all settings are as before."""
    original = arithmetic()
    with float32_arithmetic(1):  # restores what the test changes
        permit()
        before = arithmetic()
        with float32_arithmetic(3):
            assert [3, "ieee", "ieee", ("highest", False)] == arithmetic()
        assert before == arithmetic()
    assert original == arithmetic()
