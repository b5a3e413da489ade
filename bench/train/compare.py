"""Duration and test quality of a fit, compared with other libraries, and how its cost grows.

    python -m bench.train.compare [reference | tables | growth ...] [--seeds 10] [--rounds 15]

reference   64 rows, 1000 -> 100 -> 10, summed squared error, Adam, 500 steps: this
            project's training step ("engine"), only its matrix products and Adam ("floor"), a
            tutorial's PyTorch loop ("plain"), the implementations in model/lessons, and all steps
            in one lax.scan of JAX; on one core
tables      digits (50 epochs) and 200,000 rows of 50 features (5 epochs), with 100 hidden features
            and batches of 64: this project's fit, which evaluates the validation rows every epoch,
            and scikit-learn, skorch, Lightning and a DataLoader loop, which do not; on one core
growth      duration and peak memory of `python -m model train` by rows and by hidden features

All parts run by default. Each library has a process of its own, and only one process works at a
time. Each round runs every library, and a ratio is the median over the rounds. `make bench-train`
installs the peers; without them, only this project is measured. Linux only.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from rich.console import Console

from bench import REPOSITORY
from bench.arguments import new_parser, one_of
from bench.report import new_console, new_table, ratios
from bench.train.growth import growth
from bench.train.worker import Worker

PARTS = ("reference", "tables", "growth")
STEPS = 500
EPOCHS = {"digits": 50, "synthetic": 5}
"""Number of epochs by table."""
PEERS_PYTHON = REPOSITORY / ".peers" / "train" / "bin" / "python"
"""Interpreter of the peers' virtual environment."""
PEERS = ("scikit_learn", "skorch", "lightning", "dataloader")

Result = dict[str, float]
"""Result of a job: `seconds`, and `loss` or `quality`."""


project_worker = partial(Worker, sys.executable, "bench.train.jobs")
peer_worker = partial(Worker, PEERS_PYTHON, "bench.train.peers")


def reference(rounds: int, core: int, console: Console) -> dict[str, object]:
    """Time every implementation on one core, then "engine" and "plain" with default threads."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        x = random.standard_normal((64, 1000), np.float32)
        np.savez(path, x=x, y=random.standard_normal((64, 10), np.float32))
        pinned = stack.enter_context(project_worker(core))
        default = stack.enter_context(project_worker())
        settings = {"path": path, "steps": STEPS}
        forms: list[str] = pinned.run("forms")["names"]
        jobs = {form: partial(pinned.run, "reference", form=form, **settings) for form in forms}
        if PEERS_PYTHON.exists():
            jax = stack.enter_context(peer_worker(core))
            jobs["jax_scan"] = partial(jax.run, "jax_scan", **settings)
        pinned_times = time_forms("reference setup, one core", jobs, rounds, console)
        reference_job = partial(default.run, "reference", **settings)
        jobs = {form: partial(reference_job, form=form) for form in ("engine", "plain")}
        default_times = time_forms("reference setup, default settings", jobs, rounds, console)
        return {"pinned": pinned_times, "default": default_times}


def time_forms(
    title: str, jobs: Mapping[str, Callable[..., Result]], rounds: int, console: Console
) -> dict[str, Result]:
    """Run every job once per round; print and return the median results by implementation."""
    for job in jobs.values():
        job(seed=0)  # warm-up
    results: dict[str, list[Result]] = {form: [] for form in jobs}
    for seed in range(rounds):
        for form, job in jobs.items():
            results[form].append(job(seed=seed))
    table = new_table(title, "us per step", "time of engine / time of this", "last loss")
    document = {}
    for form, series in results.items():
        microseconds = statistics.median(seconds(series)) / STEPS * 1e6
        ratio = statistics.median(ratios(seconds(results["engine"]), seconds(series)))
        loss = statistics.median(result["loss"] for result in series)
        document[form] = {"us_per_step": microseconds, "engine_to_this": ratio, "loss": loss}
        table.add_row(form, f"{microseconds:.0f}", f"{ratio:.2f}", f"{loss:.2g}")
    console.print(table, "")
    return document


def tables(seeds: int, core: int, console: Console) -> dict[str, object]:
    """Fit each table with every library and seed; print and return the figures by table."""
    document: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        project = stack.enter_context(project_worker(core))
        workers = {"table": project}
        for peer in PEERS if PEERS_PYTHON.exists() else ():
            workers[peer] = stack.enter_context(peer_worker(core))
        project.run("prepare", name="digits", seed=0, path=path)
        for job, worker in workers.items():
            worker.run(job, path=path, epochs=1, seed=0)  # warm-up: imports and page faults
        for name, epochs in EPOCHS.items():
            results: dict[str, list[Result]] = {job: [] for job in workers}
            for seed in range(seeds):
                rows = project.run("prepare", name=name, seed=seed, path=path)["rows"]
                for job, worker in workers.items():
                    results[job].append(worker.run(job, path=path, epochs=epochs, seed=seed))
            title = f"{name}: {rows['train']} rows to fit, {epochs} epochs, {seeds} seeds, one core"
            document[name] = print_fits(title, results, console)
    return document


def print_fits(
    title: str, results: Mapping[str, Sequence[Result]], console: Console
) -> dict[str, Result]:
    """Print and return the duration and the test quality (accuracy or R2) by library."""
    headings = ("seconds", "time / time of fit", "test quality", "quality of fit - quality")
    table = new_table(title, *headings)
    document = {}
    fit = results["table"]
    for job, series in results.items():
        differences = [a["quality"] - b["quality"] for a, b in zip(fit, series, strict=True)]
        figures = {
            "seconds": statistics.median(seconds(series)),
            "this_to_fit": statistics.median(ratios(seconds(series), seconds(fit))),
            "quality": statistics.mean(result["quality"] for result in series),
            "fit_minus_this": statistics.mean(differences),
            "standard_error": statistics.stdev(differences) / len(differences) ** 0.5,
        }
        duration, ratio, quality, difference, error = figures.values()
        cells = f"{duration:.3f}", f"{ratio:.2f}", f"{quality:.4f}"
        name = "fit" if job == "table" else job
        table.add_row(name, *cells, f"{difference:+.4f} +- {error:.4f}")
        document[job] = figures
    console.print(table, "")
    return document


def seconds(results: Sequence[Result]) -> list[float]:
    """Return the duration of each result."""
    return [result["seconds"] for result in results]


def main() -> None:
    """Run the parts, then print the JSON document."""
    parser = new_parser(
        __doc__,
        seeds=(10, "seeds of the tables part"),
        rounds=(15, "rounds of the reference part"),
        max_rows=(10**7, "maximum number of rows of the growth part"),
    )
    parser.add_argument("parts", nargs="*", type=one_of(PARTS), help="parts to run (default: all)")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: expected at least 2, for the standard error of a mean")
    if not PEERS_PYTHON.exists():
        hint = "`make bench-train` installs the peers"
        print(f"skipping the peers: {PEERS_PYTHON} is missing; {hint}", file=sys.stderr)
    cores, console = sorted(os.sched_getaffinity(0)), new_console()
    document: dict[str, object] = {"cores": len(cores)}
    for part in arguments.parts or PARTS:
        if part == "reference":
            document[part] = reference(arguments.rounds, cores[0], console)
        elif part == "tables":
            document[part] = tables(arguments.seeds, cores[0], console)
        else:
            document[part] = growth(arguments.max_rows, console)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
