"""The fit: one loop that reads top to bottom."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import TrainConfig
from model.errors import Diverged
from model.fit.batches import Batches, Rows, sequential_batches
from model.fit.devices import process_share
from model.fit.step import Batch, Step, cross_entropy, squared_error
from model.net import TwoLayerNet

MAX_SLICE_VALUES = 1 << 22
"""Hidden values computed at once where no gradient is wanted."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history: mean losses per element (squared error) or per row (cross-entropy)."""

    number: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's steps, each measured before its update."""
    validation_loss: float
    """Measured after the epoch."""


class FitState:
    """What a fit has come to after an epoch, and all that continues it bit for bit."""

    def __init__(self, net: TwoLayerNet, config: TrainConfig, *, classification: bool) -> None:
        """Take over the parameters of net, which is on the device where the fit runs."""
        self.net, self.config = net, config
        self.step = Step(
            net, cross_entropy if classification else squared_error, config.weight_decay
        )
        self.order = torch.Generator().manual_seed(config.seed)
        self.best = self.step.parameters.clone()
        self.best_epoch: Epoch | None = None
        """The epoch of the lowest validation loss, the first of them."""
        self.history: list[Epoch] = []

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, all but the history, by name; to be saved between two epochs."""
        return self.step.state | {"best": self.best, "order": self.order.get_state()}

    def restore(self, tensors: Mapping[str, Tensor], history: Sequence[Epoch]) -> None:
        """Continue from what tensors() returned then, and the history of then.

        Raises:
            ValueError: the tensors are not those of this network.
        """
        mine = self.tensors()
        if {name: tensor.shape for name, tensor in mine.items()} != {
            name: t.shape for name, t in tensors.items()
        }:
            raise ValueError("the tensors are not those of this network")
        self.order.set_state(tensors["order"])
        for name, tensor in (self.step.state | {"best": self.best}).items():
            tensor.copy_(tensors[name])
        self.history = list(history)
        self.best_epoch = min(history, key=lambda epoch: epoch.validation_loss, default=None)

    def add(self, epoch: Epoch) -> None:
        """Add an epoch to the history, and keep the weights if it is the best so far."""
        self.history.append(epoch)
        if self.best_epoch is None or epoch.validation_loss < self.best_epoch.validation_loss:
            self.best_epoch = epoch
            self.best.copy_(self.step.parameters)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `patience` of them brought no better one."""
        done, best = len(self.history), self.best_epoch
        out_of_patience = (
            best and self.config.patience and done - best.number >= self.config.patience
        )
        return bool(done >= self.config.epochs or out_of_patience)


def run_epochs(
    state: FitState, train: Rows, validation: Rows, class_weights: Tensor | None = None
) -> Iterator[Epoch]:
    """Fit state.net in place, yielding after every epoch; at the end net holds the best epoch's weights.

    Best is the lowest validation loss. The weights are restored also when the caller stops early. Under torchrun each
    process calls this with the same arguments, and takes its share of every batch.

    Args:
        state: new, or restored.
        train: on the device of state.net.
        validation: likewise, other rows.
        class_weights: (classes,) float32, where the classes do not count alike.

    Raises:
        Diverged: the loss is not a number any more; it names the step, the learning rate and the likely cause.
    """
    config, step = state.config, state.step
    batches = Batches(
        train,
        state.net.linear2.out_features,
        config.batch_size,
        mean=config.reduction == "mean",
        class_weights=class_weights,
        share=process_share(),
    )
    at_once = max(1, MAX_SLICE_VALUES // config.hidden_features)
    held_out = sequential_batches(
        validation, state.net.linear2.out_features, at_once, class_weights
    )
    losses = torch.zeros(batches.steps, device=step.device)
    try:
        while not state.finished:
            number = len(state.history) + 1
            done = 0
            for chunk in batches.epoch(state.order):
                end = done + len(chunk)
                first = (number - 1) * batches.steps + done
                step.run(
                    chunk,
                    learning_rates(config, first, len(chunk), batches.steps),
                    losses[done:end],
                )
                done = end

            validation_loss = mean_loss(step, held_out)
            train_loss = float(losses @ batches.epoch_weights)  # sync point, one an epoch
            if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
                raise Diverged(_diverged(state, losses, validation_loss, (train, validation)))
            state.add(Epoch(number, train_loss, validation_loss))
            yield state.history[-1]
    finally:
        step.parameters.copy_(state.best)


def learning_rates(
    config: TrainConfig, first: int, steps: int, steps_per_epoch: int
) -> list[float]:
    """Return the learning rates of steps, numbered from 0: constant, or falling to 0 along half a cosine wave."""
    if config.schedule == "constant":
        return [config.learning_rate] * steps
    turn = math.pi / (config.epochs * steps_per_epoch)
    return [
        config.learning_rate * (1 + math.cos(turn * step)) / 2
        for step in range(first, first + steps)
    ]


def mean_loss(step: Step, batches: Sequence[Batch]) -> float:
    """Return the loss of batches, as in_order() weights them, at the present parameters."""
    losses = torch.zeros(len(batches), device=step.device)
    for batch, loss in zip(batches, losses.unbind(), strict=True):
        step.evaluate(batch, loss)
    return float(losses.double().sum())  # sync point


def _diverged(
    state: FitState, losses: Tensor, validation_loss: float, parts: Sequence[Rows]
) -> str:
    """Say where the loss ceased to be a number, and why it probably did."""
    number, steps = len(state.history) + 1, len(losses)
    wrong = (~losses.isfinite()).nonzero()
    index = (
        int(wrong[0]) if len(wrong) else steps - 1
    )  # else the last update did it, as the validation rows show
    found = float(losses[index]) if len(wrong) else validation_loss
    at = (number - 1) * steps + index
    largest = max(float(x.abs().max()) for x, _ in parts)
    if largest > 1e4:
        cause = f"a feature lies {largest:.3g} standard deviations off its mean: look for outliers"
    else:
        cause = "the learning rate is too large: try a smaller one"
    return (
        f"the loss is {found:g} at step {at + 1} (epoch {number}), learning rate "
        f"{learning_rates(state.config, at, 1, steps)[0]:g}: probably {cause}"
    )
