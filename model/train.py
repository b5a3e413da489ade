"""The fit: one loop that reads top to bottom."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.net import TwoLayerNet
from model.table import DataError

CORES = torch.get_num_threads()
"""What torch found when it was imported: the processor's cores, or OMP_NUM_THREADS."""
PRODUCTS_PER_THREAD = 1 << 24
"""Multiplications of a forward pass that are worth a thread."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history: mean losses per element (squared error) or per row (cross-entropy)."""

    number: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's steps, each measured before its update."""
    validation_loss: float
    """Measured after the epoch."""


def device(name: str) -> torch.device:
    """Turn auto, cpu or cuda into a device; cuda without CUDA is an error, never a silent CPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError("device: cuda was asked for, and this PyTorch finds no CUDA device (use auto or cpu)")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def threads(net: TwoLayerNet, batch_size: int, most: int) -> int:
    """Return how many threads a step deserves: a rule on shapes and cores, so that a run repeats bit for bit.

    A thread more than the work deserves slows a small step down, by far where cores are shared.
    """
    products = batch_size * (net.linear1.weight.numel() + net.linear2.weight.numel())
    return max(1, min(most, products // PRODUCTS_PER_THREAD))


def loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy for a target (batch,) int64; mean squared error for one like scores, float32."""
    if target.dtype == torch.int64:
        return nn.functional.cross_entropy(scores, target)
    return nn.functional.mse_loss(scores, target)


def fit(
    net: TwoLayerNet,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    config: TrainConfig,
) -> Iterator[Epoch]:
    """Fit net in place, yielding after every epoch; at the end net holds the best epoch's weights.

    Best is the lowest validation loss. The weights are restored also when the caller stops early.

    Args:
        net: on the device where the fit runs.
        train: standardised rows (rows, in_features) float32 and targets as loss() takes them, on that device.
        validation: likewise, other rows.
        config: the learning rate, batch size, epochs and seed are read from it.

    Raises:
        DataError: the loss is not a number any more.
    """
    x, y = train
    order = torch.Generator().manual_seed(config.seed)  # on the CPU: one order of rows, whatever the device
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)
    best_loss, best = math.inf, copy.deepcopy(net.state_dict())
    try:
        for number in range(1, config.epochs + 1):
            total = torch.zeros((), device=x.device)
            shuffled = torch.randperm(len(x), generator=order).to(x.device)
            for start in range(0, len(x), config.batch_size):
                rows = shuffled[start : start + config.batch_size]
                # forward
                error = loss(net(x[rows]), y[rows])
                # backward
                adam.zero_grad()
                error.backward()  # type: ignore[no-untyped-call] # torch's
                # update
                adam.step()
                total += error.detach() * len(rows)

            with torch.no_grad():
                validation_loss = float(loss(net(validation[0]), validation[1]))  # sync point, one an epoch
            train_loss = float(total) / len(x)
            if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
                raise DataError(
                    f"the loss is {train_loss:g} (validation {validation_loss:g}) after epoch {number} at learning "
                    f"rate {config.learning_rate:g}: try a smaller one"
                )
            if validation_loss < best_loss:
                best_loss, best = validation_loss, copy.deepcopy(net.state_dict())
            yield Epoch(number, train_loss, validation_loss)
    finally:
        net.load_state_dict(best)
