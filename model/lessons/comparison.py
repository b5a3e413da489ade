"""The forms of formulations.py side by side: live progress, a table, and their loss curves."""

import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as RichTable
from threadpoolctl import threadpool_limits

from cli.progress import progress_bar
from model.errors import DataError
from model.lessons.formulations import FORMS, Form, NumPy, Setup, float64, oracle, primer, reference

CHUNK = 10
"""Steps that each form takes in its turn; the gradients of the first of them are checked."""
LOG_LINES = 5
"""At most, of how a comparison goes; a terminal has bars."""


@dataclass
class Trial:
    """A form at work, and how it does."""

    form: Form
    setup: Setup
    losses: list[float] = field(default_factory=list)
    """Of each step, before its update."""
    seconds: float = 0.0
    """Spent on the steps."""
    error: float = 0.0
    """The largest difference of its gradients to float64's at the same weights.

    Relative to the largest element of the parameter's first gradient, not of the present one: towards the end of a
    fit the gradients go to 0, and what remains of them is the rounding of the residuals. It grows where rounding
    moves a hidden value across ReLU's kink.
    """
    largest: dict[str, float] = field(default_factory=dict)
    """Elements of each parameter's first gradient."""

    def advance(self, steps: int) -> None:
        """Take steps, and check the gradients of the first."""
        weights = float64(self.form.weights)
        self._take(1)
        gradients = float64(self.form.gradients)
        for name, expected in oracle(self.setup.x.T, self.setup.y.T, weights)[1].items():
            largest = self.largest.setdefault(name, float(np.abs(expected).max()))
            self.error = max(self.error, float(np.abs(gradients[name] - expected).max()) / largest)
        self._take(steps - 1)

    def _take(self, steps: int) -> None:
        started = time.perf_counter()
        self.losses += [self.form.step() for _ in range(steps)]
        self.seconds += time.perf_counter() - started


def compare(steps: int, seed: int, plot: Path, console: Console) -> None:
    """Run every form on the reference set-up; print how they do, and draw their loss curves to plot, a PNG.

    Raises:
        DataError: steps or seed cannot be used, or plot cannot be written: before the work, not after.
    """
    if steps < 1:
        raise DataError(f"steps: expected at least 1, found {steps}")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed: expected 0 to 2**32 - 1, found {seed}")
    refuse_unwritable(plot)
    leaves = primer()
    slopes = ", ".join(f"d{name}={leaves[name].grad:g}" for name in ("x", "w", "b"))
    values = ", ".join(f"{name}={leaves[name]:g}" for name in ("x", "w", "b"))
    console.print(
        f"primer: y = w x + b = {leaves['y']:g} at {values}; y.backward() leaves {slopes}, and none at y"
    )
    trials = run(steps, seed, console)
    console.print(layout(trials))
    console.print(
        "error: the largest difference of gradients to float64's at the same weights, checked every "
        f"{CHUNK} steps, relative to the largest element of the first gradient"
    )
    plot.write_bytes(curves(trials))
    console.print(f"{plot}: loss curves")


def refuse_unwritable(path: Path) -> None:
    """Raise a DataError where no file can be written; leave nothing behind, and a file that is there as it is."""
    try:
        if path.exists():
            path.open("r+b").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def run(steps: int, seed: int, console: Console) -> list[Trial]:
    """Run the forms side by side, each a few steps in its turn, on one thread: a second slows so small a step."""
    torch.set_num_threads(1)
    setups = [reference(form, seed) for form in FORMS]
    trials = [Trial(form(setup), setup) for form, setup in zip(FORMS, setups, strict=True)]
    with threadpool_limits(1, user_api="blas"), progress_bar(console) as bar:
        bars = [bar.add_task(f"{trial.form.name:10}", total=steps, note="") for trial in trials]
        for before in range(0, steps, CHUNK):
            done = min(before + CHUNK, steps)
            for trial, shown in zip(trials, bars, strict=True):
                trial.advance(done - before)
                bar.update(shown, completed=done, note=f"loss {trial.losses[-1]:.3g}")
            if not console.is_terminal and done * LOG_LINES // steps > before * LOG_LINES // steps:
                losses = ", ".join(f"{trial.form.name} {trial.losses[-1]:.3g}" for trial in trials)
                console.print(f"step {done} of {steps}, loss: {losses}")
    return trials


def layout(trials: Sequence[Trial]) -> RichTable:
    """Lay out how the forms did."""
    table = RichTable(box=None, pad_edge=False)
    table.add_column("form")
    table.add_column("by hand")
    for column in ("lr", "first loss", "final loss", "steps/s", "error"):
        table.add_column(column, justify="right")
    for trial in trials:
        losses = f"{trial.losses[0]:.3g}", f"{trial.losses[-1]:.3g}"
        speed, error = f"{len(trial.losses) / trial.seconds:.0f}", f"{trial.error:.1e}"
        if isinstance(trial.form, NumPy):
            error = "oracle"
        table.add_row(
            trial.form.name, trial.form.by_hand, f"{trial.form.rate:.0e}", *losses, speed, error
        )
    return table


def curves(trials: Sequence[Trial]) -> bytes:
    """Draw the loss of each form against the step; return a PNG. Where forms agree, each is seen through the next."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, trial in enumerate(trials):
        wide = isinstance(trial.form, NumPy)
        axes.plot(
            range(1, len(trial.losses) + 1),
            trial.losses,
            label=trial.form.name,
            linewidth=7 if wide else 2,
            alpha=0.35 if wide else 1,
            linestyle="-" if wide or index % 2 else ":",
        )
    axes.set(
        xlabel="step",
        ylabel="squared error, summed",
        yscale="log",
        title="one fit, written six ways",
    )
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120, metadata={"Software": None})
    return png.getvalue()
