"""Tests of training on CUDA: agreement with the CPU, repetition bit for bit, and no TF32."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from model.config import TrainConfig
from model.fit.devices import find_device, float32_arithmetic
from model.run import Run, load_run
from model.table.load import load_table
from model.training import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def trained(source: str, device: str, folder: Path, **changes: Any) -> Run:
    """Train for a few epochs and load the run."""
    config = TrainConfig(epochs=5, **changes)
    table, console = load_table(source), Console(quiet=True)
    return load_run(train(table, config, find_device(device), folder, console))


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("digits", {}),
        ("diabetes", {}),
        ("digits", {"class_weights": "balanced", "schedule": "cosine", "weight_decay": 0.1}),
        ("digits", {"class_weights": tuple(range(1, 11)), "reduction": "sum"}),
    ],
)
def test_losses_follow_the_cpu(source: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """The losses of the first epochs agree with the CPU's within a relative error of 1e-3."""
    losses = []
    for device in ("cpu", "cuda"):
        record = trained(source, device, tmp_path, **changes).record
        assert device == record.device
        losses.append([(epoch.train_loss, epoch.validation_loss) for epoch in record.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_run_repeats_bit_for_bit(tmp_path: Path) -> None:
    """Two runs of one seed have the same weights."""
    first, second = (trained("digits", "auto", tmp_path) for _ in range(2))
    assert "cuda" == first.record.device
    assert first.content == second.content


@pytest.fixture
def tf32() -> Iterator[None]:
    """Permit TF32, as a program or TORCH_ALLOW_TF32_CUBLAS_OVERRIDE may do."""
    with float32_arithmetic(torch.get_num_threads()):  # restores the setting
        torch.set_float32_matmul_precision("high")
        yield


def product_error() -> float:
    """Return the relative error of a matrix product on the GPU."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 512, generator=generator)
    exact = x.double() @ x.double()
    return float(((x.cuda() @ x.cuda()).cpu() - exact).norm() / exact.norm())


@pytest.mark.usefixtures("tf32")
def test_products_are_float32(tmp_path: Path) -> None:
    """A fit gives the bits of float32 products even where the program permits TF32."""
    permitted = trained("digits", "cuda", tmp_path)
    with float32_arithmetic(torch.get_num_threads()):
        assert product_error() < 1e-6
        assert permitted.content == trained("digits", "cuda", tmp_path).content
    if torch.cuda.get_device_capability() >= (8, 0):
        assert product_error() > 1e-5, "TF32 should have been permitted outside of the fit"
