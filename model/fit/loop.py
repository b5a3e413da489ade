"""The training loop: epochs, their losses, and the weights of the best epoch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import TrainConfig
from model.errors import Diverged
from model.fit.batches import Batches, Rows, sequential_batches
from model.fit.devices import first_process_values, process_share
from model.fit.step import Batch, Step, cross_entropy, squared_error
from model.net import TwoLayerNet
from tabular.number_format import format_number

MAX_SLICE_VALUES = 1 << 22
"""Maximum number of values computed at once outside of training steps."""


@dataclass(frozen=True)
class Epoch:
    """The losses of one epoch, averaged over elements (squared error) or rows (cross-entropy)."""

    number: int
    """Number of the epoch, from 1."""
    train_loss: float
    """Mean loss of the training rows, measured in each batch before its update."""
    validation_loss: float
    """Loss of the validation rows, measured after the epoch."""


class FitState:
    """The state of a fit between two chunks; after a restore, the fit continues bit for bit."""

    def __init__(self, net: TwoLayerNet, config: TrainConfig, *, classification: bool) -> None:
        """Start a fit of net, whose parameters become views of the step's flat parameter."""
        self.net, self.config = net, config
        loss = cross_entropy if classification else squared_error
        self.step = Step(net, loss, config.weight_decay)
        self.order = torch.Generator().manual_seed(config.seed)
        self.epoch_order = self.order.get_state()
        """State of the generator at the start of the unfinished epoch."""
        self.losses = torch.zeros(0, device=self.step.device)
        """Losses of the steps taken in the unfinished epoch, (steps,)."""
        self.best = self.step.parameters.clone()
        self.best_epoch: Epoch | None = None
        """The first epoch with the lowest validation loss."""
        self.history: list[Epoch] = []

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state by name, without a copy."""
        named = {"best": self.best, "order": self.epoch_order, "losses": self.losses}
        return self.step.state | named

    def restore(self, tensors: Mapping[str, Tensor], history: Sequence[Epoch]) -> None:
        """Copy a saved state into this one; raise ValueError if the names or shapes differ."""
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        expected = {name: tensor.shape for name, tensor in self.tensors().items()}
        # Any number of steps may have been taken in the unfinished epoch.
        if shapes != expected | {"losses": shapes.get("losses")}:
            raise ValueError("the tensors do not fit this network")
        self.order.set_state(tensors["order"])
        self.epoch_order = self.order.get_state()
        self.losses = tensors["losses"].to(self.step.device)
        for name, tensor in (self.step.state | {"best": self.best}).items():
            tensor.copy_(tensors[name])
        self.history = list(history)
        self.best_epoch = min(history, key=lambda epoch: epoch.validation_loss, default=None)

    def add(self, epoch: Epoch) -> None:
        """Append an epoch, and copy the weights if its validation loss is the lowest so far."""
        self.history.append(epoch)
        self.epoch_order, self.losses = self.order.get_state(), self.losses[:0]
        if self.best_epoch is None or epoch.validation_loss < self.best_epoch.validation_loss:
            self.best_epoch = epoch
            self.best.copy_(self.step.parameters)

    @property
    def finished(self) -> bool:
        """Whether all epochs have run, or the last `patience` epochs have not lowered the loss."""
        epochs, best, patience = len(self.history), self.best_epoch, self.config.patience
        stalled = best and patience and epochs - best.number >= patience
        return bool(epochs >= self.config.epochs or stalled)


def run_epochs(
    state: FitState,
    train: Rows,
    validation: Rows,
    class_weights: Tensor | None = None,
    before_chunk: Callable[[], object] = lambda: None,
) -> Iterator[Epoch]:
    """Fit state.net in place, and yield each epoch after it has run.

    When the iterator ends or is closed, state.net receives the weights of the best epoch. Under
    torchrun, each process calls this with the same arguments and takes its share of every batch.
    All tensors are on the device of state.net; class_weights is (classes,) float32, or None.
    before_chunk is called before each chunk of training or validation rows; it may save the state,
    and may raise an exception to end the fit.

    Raises:
        Diverged: the loss became infinite or NaN; the message names the step and the likely cause.
    """
    config, step, out_features = state.config, state.step, state.net.linear2.out_features
    mean, share = config.reduction == "mean", process_share()
    batches = Batches(
        train,
        out_features,
        config.batch_size,
        mean=mean,
        class_weights=class_weights,
        share=share,
        row_products=len(step.parameters),
    )
    slice_rows = max(1, MAX_SLICE_VALUES // config.hidden_features)
    validation_batches = sequential_batches(validation, out_features, slice_rows, class_weights)
    losses = torch.zeros(batches.steps, device=step.device)
    losses[: len(state.losses)] = state.losses
    try:
        while not state.finished:
            number = len(state.history) + 1
            for chunk in batches.epoch(state.order, skip=len(state.losses)):
                before_chunk()
                start = len(state.losses)  # index of the chunk's first step in this epoch
                first = (number - 1) * batches.steps + start
                rates = learning_rates(config, first, len(chunk), batches.steps)
                step.run(chunk, rates, losses[start : start + len(chunk)])
                state.losses = losses[: start + len(chunk)]

            train_loss = float(losses @ batches.epoch_weights)  # sync point, once per epoch
            own = train_loss, mean_loss(step, validation_batches, before_chunk)
            # Losses can differ between processes in the last bits; all use those of the first.
            train_loss, validation_loss = first_process_values(own, step.device)
            if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
                raise _divergence(state, losses, validation_loss, (train, validation))
            state.add(Epoch(number, train_loss, validation_loss))
            yield state.history[-1]
    finally:
        step.parameters.copy_(state.best)


def learning_rates(config: TrainConfig, first: int, steps: int, epoch_steps: int) -> list[float]:
    """Return the learning rates of `steps` steps; `first` is the number of steps before them."""
    rate, last = config.learning_rate, first + steps
    if config.schedule == "constant":
        return [rate] * steps
    angle_per_step = math.pi / (config.epochs * epoch_steps)
    return [rate * (1 + math.cos(angle_per_step * step)) / 2 for step in range(first, last)]


def mean_loss(
    step: Step, batches: Sequence[Batch], before_batch: Callable[[], object] = lambda: None
) -> float:
    """Return the sum of the losses of sequential batches, which is the mean loss of their rows."""
    losses = torch.zeros(len(batches), device=step.device)
    for batch, loss in zip(batches, losses.unbind(), strict=True):
        before_batch()
        step.evaluate(batch, loss)
    return float(losses.double().sum())  # sync point


def _divergence(
    state: FitState, losses: Tensor, validation_loss: float, parts: Sequence[Rows]
) -> Diverged:
    """Return the error that names the first step without a finite loss, and the likely cause."""
    number, steps = len(state.history) + 1, len(losses)
    # If all losses of the epoch are finite, its last update made the validation loss diverge.
    nonfinite = (~losses.isfinite()).nonzero()
    index = int(nonfinite[0]) if len(nonfinite) else steps - 1
    loss = float(losses[index]) if len(nonfinite) else validation_loss
    step = (number - 1) * steps + index
    rate = learning_rates(state.config, step, 1, steps)[0]
    largest = max(float(x.abs().max()) for x, _ in parts)
    cause = "the learning rate is too large: try a smaller one"
    if largest > 1e4:
        distance = f"{format_number(largest)} standard deviations"
        cause = f"a feature lies {distance} off its mean: look for outliers"
    where = f"at step {step + 1} (epoch {number}), learning rate {rate:g}"
    return Diverged(f"the loss is {loss:g} {where}: probably {cause}")
