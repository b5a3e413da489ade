"""Functions that run test code after each epoch of a training run."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model.fit.loop import Epoch, FitState, run_epochs


def watch_epochs(monkeypatch: pytest.MonkeyPatch, look: Callable[[FitState], object]) -> None:
    """Call `look` with the state after each epoch, before its checkpoint is written."""

    def run_watched(state: FitState, *arguments: Any) -> Iterator[Epoch]:
        for epoch in run_epochs(state, *arguments):
            look(state)
            yield epoch

    monkeypatch.setattr("model.fit.progress.run_epochs", run_watched)


def interrupt_after(epochs: int) -> Callable[[FitState], object]:
    """Return a callback for watch_epochs that sends SIGINT after this number of epochs."""

    def interrupt(state: FitState) -> None:
        if len(state.history) == epochs:
            signal.raise_signal(signal.SIGINT)

    return interrupt
