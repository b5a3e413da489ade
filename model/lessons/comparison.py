"""Comparison of the formulations: progress, a table, and a plot of the losses.

The reference problem is to fit 64 rows of standard-normal noise with a network of 1000 -> 100 -> 10
features; each step takes all rows, and sums the squared error over rows and outputs.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable
from threadpoolctl import threadpool_limits

from cli.progress import progress_bar
from model.errors import DataError
from model.lessons.formulations import Form, Setup, float64
from model.lessons.module_forms import Module, Optim, Sequential, parameters_by_name, sequential
from model.lessons.numpy_forms import NumPy, NumPyAdam, oracle
from model.lessons.tensor_forms import Autograd, Manual, primer
from model.report import to_png

FORMS: tuple[type[Form], ...] = (NumPy, Manual, Autograd, Sequential, NumPyAdam, Optim, Module)
LEARNING_RATES = {"normal": 1e-6, "initialised": 1e-3}
"""Learning rate on the reference problem for each kind of initial weights."""
ROWS, LAYER_WIDTHS = 64, (1000, 100, 10)
"""Number of rows of the reference problem, and of its features, hidden features and outputs."""
TURN_STEPS = 10
"""Number of steps per turn of a form; the gradients of the first step are checked."""
MAX_LOG_LINES = 5
"""Maximum number of progress lines in a log; a terminal shows progress bars instead."""


@dataclass
class Trial:
    """A form with its losses, its computing time and the error of its gradients."""

    form: Form
    setup: Setup
    losses: list[float] = field(default_factory=list)
    """Loss of each step, before its update."""
    seconds: float = 0.0
    error: float = 0.0
    """Largest deviation from float64 gradients at the same weights, relative to `scale`.

    Later gradients are unsuitable as a scale: they approach 0, but rounding errors remain. The
    error is large if rounding moves a hidden value across the kink of ReLU.
    """
    scale: dict[str, float] = field(default_factory=dict)
    """Largest element of each parameter's first gradient."""

    def advance(self, steps: int) -> None:
        """Take steps, and check the gradients of the first step."""
        weights = float64(self.form.weights)
        self._take(1)
        gradients = float64(self.form.gradients)
        for name, expected in oracle(self.setup.x.T, self.setup.y.T, weights)[1].items():
            scale = self.scale.setdefault(name, float(np.abs(expected).max()))
            self.error = max(self.error, float(np.abs(gradients[name] - expected).max()) / scale)
        self._take(steps - 1)

    def _take(self, steps: int) -> None:
        start_time = time.perf_counter()
        self.losses += [self.form.step() for _ in range(steps)]
        self.seconds += time.perf_counter() - start_time


def reference(form: type[Form], seed: int) -> Setup:
    """Draw the reference problem for a form; all values are exactly representable in float32."""
    random = np.random.default_rng(seed)
    inputs, hidden, outputs = LAYER_WIDTHS
    shapes = (ROWS, inputs), (ROWS, outputs), (hidden, inputs), (outputs, hidden)
    x, y, w1, w2 = (random.standard_normal(shape, np.float32).astype(float) for shape in shapes)
    weights = {"w1": w1, "w2": w2}
    if form.start == "initialised":
        weights = float64(parameters_by_name(sequential(*LAYER_WIDTHS, seed)))
    return Setup(x, y, weights, LEARNING_RATES[form.start])


def compare(steps: int, seed: int, plot: Path, console: Console) -> None:
    """Run every form on the reference problem, print a table, and plot the losses to a PNG file."""
    if steps < 1:
        raise DataError(f"steps: expected at least 1, found {steps}")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed: expected 0 to 2**32 - 1, found {seed}")
    refuse_unwritable(plot)
    x, w, b, y = primer().values()
    console.print(
        f"primer: y = w x + b = {y:g} at x={x:g}, w={w:g}, b={b:g}; y.backward() stores "
        f"dx={x.grad:g}, dw={w.grad:g}, db={b.grad:g} in the leaves' .grad"
    )
    trials = run(steps, seed, console)
    console.print(comparison_table(trials))
    console.print(
        "error: the largest difference of the gradients from float64's at the same weights, "
        f"checked every {TURN_STEPS} steps, relative to the largest element of the first gradient"
    )
    plot.write_bytes(plot_losses(trials))
    console.print(f"{plot}: loss curves")


def refuse_unwritable(path: Path) -> None:
    """Raise a DataError if the file cannot be written; the check changes nothing on disk."""
    try:
        if path.exists():
            path.open("r+b").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def run(steps: int, seed: int, console: Console) -> list[Trial]:
    """Run the forms in turns on one thread, because a second thread slows such small steps down."""
    torch.set_num_threads(1)
    setups = [reference(form, seed) for form in FORMS]
    trials = [Trial(form(setup), setup) for form, setup in zip(FORMS, setups, strict=True)]
    with threadpool_limits(1, user_api="blas"), progress_bar(console) as bar:
        tasks = [bar.add_task(f"{trial.form.name:10}", total=steps, note="") for trial in trials]
        for start in range(0, steps, TURN_STEPS):
            end = min(start + TURN_STEPS, steps)
            for trial, task in zip(trials, tasks, strict=True):
                trial.advance(end - start)
                bar.update(task, completed=end, note=f"loss {trial.losses[-1]:.3g}")
            line_due = end * MAX_LOG_LINES // steps > start * MAX_LOG_LINES // steps
            if line_due and not console.is_terminal:
                losses = ", ".join(f"{trial.form.name} {trial.losses[-1]:.3g}" for trial in trials)
                console.print(f"step {end} of {steps}, loss: {losses}")
    return trials


def comparison_table(trials: Sequence[Trial]) -> RichTable:
    """Return a table with a row for each form."""
    table = RichTable("form", "by hand", box=None, pad_edge=False)
    for column in ("lr", "first loss", "final loss", "steps/s", "error"):
        table.add_column(column, justify="right")
    for trial in trials:
        numbers = (
            f"{trial.setup.learning_rate:.0e}",
            f"{trial.losses[0]:.3g}",
            f"{trial.losses[-1]:.3g}",
            f"{len(trial.losses) / trial.seconds:.0f}",
            "oracle" if isinstance(trial.form, NumPy) else f"{trial.error:.1e}",
        )
        table.add_row(trial.form.name, trial.form.by_hand, *numbers)
    return table


def plot_losses(trials: Sequence[Trial]) -> bytes:
    """Plot the loss of each form against the step; return a PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, trial in enumerate(trials):
        steps = range(1, len(trial.losses) + 1)
        # An oracle's curve is wide and translucent, so coinciding curves stay visible on it.
        width, alpha = (7, 0.35) if isinstance(trial.form, NumPy) else (2, 1.0)
        line = "-" if index % 2 or width == 7 else ":"
        axes.plot(steps, trial.losses, line, label=trial.form.name, linewidth=width, alpha=alpha)
    axes.set(xlabel="step", ylabel="squared error, summed", yscale="log")
    axes.set_title("one fit, written six ways")
    axes.legend()
    return to_png(figure)
