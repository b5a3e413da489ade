"""Watch the epochs of a training from a test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model.fit.loop import Epoch, FitState, run_epochs


def watch_epochs(monkeypatch: pytest.MonkeyPatch, look: Callable[[FitState], object]) -> None:
    """Call look with the state after each epoch, before a checkpoint of that epoch is written."""

    def watched(state: FitState, *arguments: Any) -> Iterator[Epoch]:
        for epoch in run_epochs(state, *arguments):
            look(state)
            yield epoch

    monkeypatch.setattr("model.training.run_epochs", watched)


def interrupt_after(epochs: int) -> Callable[[FitState], object]:
    """Return a function for watch_epochs that interrupts a fit after its checkpoint of an epoch."""

    def interrupt(state: FitState) -> None:
        if len(state.history) > epochs:
            raise KeyboardInterrupt

    return interrupt
