"""How the cost of a fit grows: with rows, with hidden features, and with threads. Parts of bench/train.py."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
FEATURES = 50
PART_ROWS = 10**6
"""Written at once: what generating the rows holds in memory."""
FEW_ROWS = 10**4
"""Of the fits whose hidden features vary."""
EPOCHS = {"rows": 1, "hidden_features": 10}
"""Of the fits in which it varies."""
MOST_PRODUCTS = 1 << 31
"""Multiplications of a forward pass in the grid of threads."""


@dataclass(frozen=True)
class Point:
    """What one command cost."""

    rows: int
    hidden_features: int
    epochs: int
    seconds: float
    """From its start to its end, imports included."""
    peak_bytes: int
    """Largest resident set."""
    table_bytes: int
    """The features as float32."""


def growth(most_rows: int, plot: Path, console: Console) -> dict[str, object]:
    """Fit with ever more rows, then hidden features, each in a process of its own; draw what it cost."""
    points: dict[str, list[Point]] = {"rows": [], "hidden_features": []}
    console.print(
        f"`python -m model train`, {FEATURES} features, default settings, imports included"
    )
    console.print(
        f"{'rows':>10} {'hidden':>7} {'epochs':>7} {'seconds':>8} {'peak MB':>8} {'peak / table':>13}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        for kind, rows, hidden_features in shapes(most_rows):
            if not points[kind] or points[kind][-1].rows != rows:
                write_aside(path, rows)
            point = measure(path, rows, hidden_features, EPOCHS[kind])
            points[kind].append(point)
            console.print(
                f"{rows:10} {hidden_features:7} {point.epochs:7} {point.seconds:8.2f} {point.peak_bytes / 1e6:8.0f} "
                f"{point.peak_bytes / point.table_bytes:13.2f}"
            )
    draw(points, plot)
    console.print(f"{plot.relative_to(ROOT)}\n")
    return {kind: [asdict(point) for point in some] for kind, some in points.items()}


def shapes(most_rows: int) -> Iterator[tuple[str, int, int]]:
    """Name what varies, with rows and hidden features."""
    yield from (("rows", 10**power, 100) for power in range(3, 8) if 10**power <= most_rows)
    yield from (("hidden_features", FEW_ROWS, 1 << power) for power in range(4, 14))


def write_aside(path: Path, rows: int) -> None:
    """Write rows in another process: to Linux a command's peak memory begins at its parent's."""
    process = multiprocessing.get_context("spawn").Process(target=write, args=(path, rows))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"writing {path} ended with exit code {process.exitcode}")


def write(path: Path, rows: int) -> None:
    """Write so many rows of numbers as Parquet, a part at a time."""
    names = [f"x{i}" for i in range(FEATURES)]
    with tempfile.TemporaryDirectory(dir=path.parent) as parts:
        for begin in range(0, rows, PART_ROWS):
            random = np.random.default_rng(begin)
            x = random.standard_normal((min(PART_ROWS, rows - begin), FEATURES), np.float32)
            y = np.sin(x.sum(axis=1) / 3) + random.standard_normal(len(x), np.float32) / 2
            part = pl.DataFrame(x, schema=names).with_columns(y=y)
            part.write_parquet(f"{parts}/{begin:09}.parquet")
        pl.scan_parquet(f"{parts}/*.parquet").sink_parquet(path)


def measure(path: Path, rows: int, hidden_features: int, epochs: int) -> Point:
    """Run one command to its end."""
    with tempfile.TemporaryDirectory() as runs:
        settings = {
            "data": path,
            "target": "y",
            "epochs": epochs,
            "hidden": hidden_features,
            "device": "cpu",
        }
        settings["runs"] = runs
        command = [
            sys.executable,
            "-m",
            "model",
            "train",
            *(f"--{key}={value}" for key, value in settings.items()),
        ]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    seconds = time.perf_counter() - started
    return Point(
        rows, hidden_features, epochs, seconds, usage.ru_maxrss * 1024, rows * FEATURES * 4
    )


def draw(points: dict[str, list[Point]], path: Path) -> None:
    """Draw seconds and peak memory against rows, and against hidden features."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    titles = {"rows": "hidden 100", "hidden_features": f"{FEW_ROWS:,} rows"}
    for axes, (kind, some) in zip(figure.subplots(1, 2), points.items(), strict=True):
        across = [getattr(point, kind) for point in some]
        axes.loglog(across, [point.seconds for point in some], "o-", color="tab:blue")
        memory = axes.twinx()
        memory.loglog(across, [point.peak_bytes / 1e6 for point in some], "s--", color="tab:red")
        if kind == "rows":
            held = [point.table_bytes / 1e6 for point in some]
            memory.loglog(across, held, ":", color="tab:red", label="the features as float32")
            memory.legend(loc="upper left")
        title = f"{titles[kind]}, {FEATURES} features, epochs: {EPOCHS[kind]}"
        axes.set(xlabel=kind.replace("_", " "), title=title)
        axes.set_ylabel("seconds, start to end", color="tab:blue")
        axes.set_ylim(1, 1000)
        memory.set_ylabel("peak memory, MB", color="tab:red")
        memory.set_ylim(10, 100_000)  # whole decades: what hardly changes looks it
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def thread_grid(ask: Callable[..., dict[str, Any]], console: Console) -> list[dict[str, Any]]:
    """Time a step on each number of threads over a grid of shapes; print what each takes of one thread's time."""
    found = []
    for in_features in (16, 64, 256, 1000, 4000):
        for hidden_features in (16, 100, 512, 2048, 8192):
            for batch in (16, 64, 256, 1024):
                shape = {
                    "in_features": in_features,
                    "hidden_features": hidden_features,
                    "batch": batch,
                }
                if batch * hidden_features * in_features > MOST_PRODUCTS:
                    continue
                answer = ask("grid", **shape, rounds=3, seconds=0.03)
                found.append(shape | answer)
    counts = [
        *sorted({name for line in found for name in line["seconds"]} - {"plain"}, key=int),
        "plain",
    ]
    header = "".join(f"{f'{count} threads' if count.isdigit() else count:>11}" for count in counts)
    console.print(
        "a step of in_features -> hidden -> 10, of one thread's time; plain: the loop on all cores; chosen: the rule's"
    )
    console.print(
        f"{'products':>9} {'parameters':>10} {'in':>5} {'hidden':>6} {'batch':>5} {'us':>7}{header} chosen"
    )
    for line in sorted(found, key=lambda line: int(line["products"])):
        seconds = line["seconds"]
        ratios = "".join(
            f"{seconds[c] / seconds['1']:11.2f}" if c in seconds else " " * 11 for c in counts
        )
        console.print(
            f"{line['products']:9.1e} {line['parameters']:10} {line['in_features']:5} {line['hidden_features']:6} "
            f"{line['batch']:5} {seconds['1'] * 1e6:7.0f}{ratios} {line['chosen']:6}"
        )
    return found
