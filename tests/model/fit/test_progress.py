"""Tests of model.fit.progress: a signal ends a fit with a checkpoint, which gives the same run."""

import dataclasses
import io
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cli.interruption import interrupt_on_signals
from model.config import TrainConfig
from model.fit.checkpoint import TrainRequest, load_checkpoint
from model.run import load_run
from model.training import train
from tests.model.tables import make_table

CONFIG = TrainConfig(hidden_features=8, epochs=8, learning_rate=1e-2, batch_size=16)
CPU = torch.device("cpu")
QUIET = Console(quiet=True)


class Signals:
    """Sends a signal to a fit, in place of a function that the fit calls."""

    def __init__(self, number: signal.Signals, *, to_other_process: bool = False) -> None:
        self.number, self.to_other_process = number, to_other_process
        self.calls = 0

    def largest_of_processes(self, value: int, device: torch.device) -> int:
        """Receive the signal in the fourth call, or report another process's from the fifth on."""
        self.calls += 1
        if self.calls == 4 and not self.to_other_process:
            signal.raise_signal(self.number)
        return self.number if self.calls >= 5 and self.to_other_process else value

    def plot_curves(self, *arguments: object) -> bytes:
        """Receive the signal after the last epoch."""
        signal.raise_signal(self.number)
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["epoch", "epoch of another process", "metrics"])
def test_signal_saves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: signal.Signals
) -> None:
    """A signal ends the fit before its next chunk with a checkpoint, which gives the same run."""
    table = make_table()
    whole = load_run(train(table, CONFIG, CPU, tmp_path / "whole", QUIET))
    log = io.StringIO()
    console = Console(file=log, soft_wrap=True)
    request = TrainRequest(source="t")
    monkeypatch.setattr("model.fit.batches.MAX_CHUNK_BATCHES", 2)  # two chunks in an epoch
    with monkeypatch.context() as patch:
        signals = Signals(number, to_other_process="other" in moment)
        if moment == "metrics":
            patch.setattr("model.training.plot_curves", signals.plot_curves)
        else:
            patch.setattr("model.fit.progress.largest_of_processes", signals.largest_of_processes)
        with pytest.raises(KeyboardInterrupt), interrupt_on_signals() as received:
            train(table, CONFIG, CPU, tmp_path, console, request=request, resume_command="go on")
    assert [number] == received
    (path,) = (tmp_path / "t").iterdir()
    done = "8 of 8 epochs" if moment == "metrics" else "1 of 8 epochs and 2 steps of the next"
    expected = [f"{path}: checkpoint after {done}", "continue with: go on"]
    assert expected == log.getvalue().splitlines()[-2:]
    checkpoint = load_checkpoint(path)
    resumed = load_run(train(table, CONFIG, CPU, tmp_path, QUIET, checkpoint=checkpoint))
    assert whole.content == resumed.content
    assert whole.record == dataclasses.replace(resumed.record, created=whole.record.created)


def test_signal_before_the_first_step_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any progress, there is nothing to save."""
    monkeypatch.setattr("model.fit.progress.largest_of_processes", lambda *_: signal.SIGTERM)
    options: dict[str, Any] = {"request": TrainRequest(source="t"), "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt), interrupt_on_signals():
        train(make_table(), CONFIG, CPU, tmp_path, QUIET, **options)
    assert [] == list(tmp_path.iterdir())
