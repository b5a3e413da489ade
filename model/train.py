"""The fit: TrainConfig, and one loop that reads top to bottom."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.net import TwoLayerNet
from model.table import DataError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a person chooses about a fit."""

    hidden_features: int = 100
    """Width of the hidden layer."""
    epochs: int = 100
    """Passes over the training rows."""
    batch_size: int = 64
    """Rows per step of Adam."""
    learning_rate: float = 1e-3
    """Adam's step size, in units of the standardised problem."""
    seed: int = 0
    """Decides the split, the initial weights and the order of the rows."""

    def __post_init__(self) -> None:
        """Raise DataError where a value cannot be used."""
        for name in ("hidden_features", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise DataError(f"learning_rate: expected a positive number, found {self.learning_rate}")
        if not 0 <= self.seed < 2**32:
            raise DataError(f"seed: expected 0 to 2**32 - 1, found {self.seed}")


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
    order = torch.Generator(x.device).manual_seed(config.seed)
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)
    best_loss, best = math.inf, copy.deepcopy(net.state_dict())
    try:
        for number in range(1, config.epochs + 1):
            total = torch.zeros((), device=x.device)
            shuffled = torch.randperm(len(x), generator=order, device=x.device)
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
