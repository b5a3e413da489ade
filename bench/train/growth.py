"""Duration and peak memory of a fit by number of rows and by number of hidden features."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from bench import REPOSITORY

FEATURES = 50
HIDDEN_FEATURES = 100
"""Number of hidden features of the fits that vary the number of rows."""
ROWS = 10**4
"""Number of rows of the fits that vary the number of hidden features."""
EPOCHS = {"rows": 1, "hidden_features": 10}
"""Number of epochs by the quantity that varies."""


@dataclass(frozen=True)
class Cost:
    """Cost of one command."""

    rows: int
    hidden_features: int
    epochs: int
    seconds: float
    """Duration from start to end, imports included."""
    peak_bytes: int
    """Largest resident set size."""
    table_bytes: int
    """Size of the features as float32."""


def growth(max_rows: int, console: Console) -> dict[str, object]:
    """Run fits of growing size, each in a process of its own; print and return their costs."""
    costs: dict[str, list[Cost]] = {"rows": [], "hidden_features": []}
    console.print(f"`python -m model train`, {FEATURES} features, default settings, with imports")
    console.print("      rows  hidden  epochs  seconds  peak MB  peak / table")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        for quantity, rows, hidden_features in sizes(max_rows):
            if not costs[quantity] or costs[quantity][-1].rows != rows:
                write_in_child(path, rows)
            cost = measure(path, rows, hidden_features, EPOCHS[quantity])
            costs[quantity].append(cost)
            console.print(
                f"{rows:10} {hidden_features:7} {cost.epochs:7} {cost.seconds:8.2f} "
                f"{cost.peak_bytes / 1e6:8.0f} {cost.peak_bytes / cost.table_bytes:13.2f}"
            )
    console.print()
    return {quantity: [asdict(cost) for cost in series] for quantity, series in costs.items()}


def sizes(max_rows: int) -> Iterator[tuple[str, int, int]]:
    """Yield the quantity that varies, the number of rows, and the number of hidden features."""
    for power in range(3, 8):
        if 10**power <= max_rows:
            yield "rows", 10**power, HIDDEN_FEATURES
    for power in range(4, 14):
        yield "hidden_features", ROWS, 1 << power


def write_in_child(path: Path, rows: int) -> None:
    """Write rows in another process, as on Linux a child's peak memory starts at its parent's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        executor.submit(write, path, rows).result()


def write(path: Path, rows: int) -> None:
    """Write random rows as Parquet."""
    random = np.random.default_rng(rows)
    x = random.standard_normal((rows, FEATURES), np.float32)
    y = np.sin(x.sum(axis=1) / 3) + random.standard_normal(rows, np.float32) / 2
    table = pl.DataFrame(x, schema=[f"x{i}" for i in range(FEATURES)]).with_columns(y=y)
    table.write_parquet(path)


def measure(path: Path, rows: int, hidden_features: int, epochs: int) -> Cost:
    """Run one fit to its end, and return its cost."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "model", "train", f"--data={path}", "--target=y"]
        command += [f"--epochs={epochs}", f"--hidden={hidden_features}", "--device=cpu"]
        command += [f"--runs={runs}"]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    table_bytes = rows * FEATURES * 4
    return Cost(rows, hidden_features, epochs, seconds, usage.ru_maxrss * 1024, table_bytes)
