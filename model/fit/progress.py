"""Run a fit's epochs with progress output and checkpoints; stop cleanly at SIGINT or SIGTERM."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from torch import Tensor

from cli.interruption import defer_signals
from cli.progress import progress_bar
from model.errors import Diverged
from model.fit.batches import Rows
from model.fit.checkpoint import CheckpointWriter, describe_progress
from model.fit.devices import largest_of_processes
from model.fit.loop import FitState, run_epochs
from tabular.number_format import format_number

LOG_INTERVAL_SECONDS = 10
"""Seconds between two progress lines in a log; a terminal shows a progress bar instead."""


@contextlib.contextmanager
def resumable(
    state: FitState, writer: CheckpointWriter | None, resume_command: str, console: Console
) -> Iterator[None]:
    """If the block fails or is interrupted, print which checkpoint exists and how to resume it."""
    try:
        yield
    except BaseException as error:
        # The weights are those of the best epoch, from which a finished fit gives the same run.
        if writer and state.finished and isinstance(error, KeyboardInterrupt):
            writer.save(state)
        if writer and any(writer.progress):
            progress = describe_progress(*writer.progress, state.config.epochs)
            console.print(f"{writer.path}: checkpoint after {progress}")
            if resume_command:
                console.print(f"continue with: {resume_command}")
        raise


def run_to_end(
    state: FitState,
    rows: Mapping[str, Rows],
    weights: Tensor | None,
    writer: CheckpointWriter | None,
    console: Console,
) -> Diverged | None:
    """Run the epochs with progress and checkpoints; return the error if the loss diverged.

    Raises:
        KeyboardInterrupt: this process, or another one of torchrun, received SIGINT or SIGTERM.
    """
    log_time, epochs = time.monotonic(), state.config.epochs
    with progress_bar(console) as bar, defer_signals() as signals:

        def save_or_stop() -> None:
            # All processes must stop before the same step, whichever of them has a signal.
            number = largest_of_processes(signals[0] if signals else 0, state.step.device)
            if number and not signals:
                signal.raise_signal(number)  # A later SIGTERM from torchrun is ignored.
            if writer and number:
                writer.save(state)
            elif writer:
                writer.save_if_due(state)
            if number:
                raise KeyboardInterrupt

        task = bar.add_task("fit", total=epochs, completed=len(state.history), note="")
        parts = rows["train"], rows["validation"]
        try:
            for epoch in run_epochs(state, *parts, weights, save_or_stop):
                now = time.monotonic()
                note = f"validation loss {format_number(epoch.validation_loss)}"
                bar.update(task, advance=1, note=note)
                if not console.is_terminal and now - log_time >= LOG_INTERVAL_SECONDS:
                    log_time = now
                    console.print(f"epoch {epoch.number} of {epochs}, {note}")
        except Diverged as error:
            return error
    return None
