"""Training on CUDA: the same fit, and a run that export and service cannot tell from another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from model.config import TrainConfig
from model.fit.devices import find_device
from model.run import load_run
from model.table import load
from model.training import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


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
    """Same seed, same split, same weights and order of rows: the first epochs' losses agree to rounding."""
    table = load.load_table(source)
    config = TrainConfig(epochs=5, **changes)
    losses = []
    for name in ("cpu", "cuda"):
        path = train(table, config, torch.device(name), tmp_path / name, Console(quiet=True))
        record = load_run(path).record
        assert name == record.device
        losses.append([(epoch.train_loss, epoch.validation_loss) for epoch in record.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_auto_takes_the_gpu() -> None:
    """Auto means CUDA where there is one."""
    assert torch.device("cuda") == find_device("auto")


def test_gpu_run_repeats_bit_for_bit(tmp_path: Path) -> None:
    """Two runs with one seed on the GPU end in the same weights."""
    table = load.load_table("digits")
    runs = [
        load_run(
            train(table, TrainConfig(epochs=5), find_device("cuda"), tmp_path, Console(quiet=True))
        )
        for _ in range(2)
    ]
    assert runs[0].content == runs[1].content
