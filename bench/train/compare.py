"""Duration and test quality of a fit, beside comparable libraries, and how its cost grows.

    python -m bench.train.compare [reference | tables | growth ...]
                                  [--seeds 10] [--rounds 15] [--threads 1]

reference   64 rows, 1000 -> 100 -> 10, summed squared error, Adam, 500 steps: the engine; the
            floor, which is only the matrix products and the Adam of a step; the plain loop; the
            lessons; and JAX with all steps in one lax.scan
tables      digits, 50 epochs, and 200,000 rows of 50 features, 5 epochs; 100 hidden features,
            batches of 64: the fit, which evaluates the validation rows in every epoch, and
            scikit-learn, skorch, Lightning and a DataLoader loop, which do not
growth      duration and peak memory of `python -m model train` by rows and by hidden features

All parts by default. Each library has a process of its own, and only one of them works
at a time. Rounds alternate, and a ratio is the median of the ratios within a round. `make
bench-train` installs the peers; without them, only this project is measured. Linux only.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from bench import REPOSITORY
from bench.arguments import new_parser, one_of
from bench.report import new_console, new_table, ratios
from bench.train.growth import growth
from bench.train.worker import Worker

PARTS = ("reference", "tables", "growth")
PROJECT_JOBS, PEER_JOBS = "bench.train.jobs", "bench.train.peers"
STEPS = 500
EPOCHS = {"digits": 50, "synthetic": 5}
"""Number of epochs by table."""
PEERS = ("scikit_learn", "skorch", "lightning", "dataloader")

PEERS_PYTHON = REPOSITORY / ".peers" / "train" / "bin" / "python"

Result = dict[str, float]
"""Result of a job: `seconds`, and `loss` or `quality`."""
Job = Callable[..., Result]
"""Function from `seed` to a result."""


@dataclass(frozen=True)
class Bench:
    """Settings of all parts."""

    console: Console
    peers: Path | None
    """Interpreter of the peers' virtual environment; without it the peers are left out."""
    cores: Sequence[int]
    """CPU cores of the reference and tables parts, one thread each."""
    rounds: int
    """Number of rounds of the reference part."""
    seeds: int
    """Number of seeds of the tables part."""


def reference(bench: Bench) -> dict[str, object]:
    """Time all forms of the reference setup on the cores, then two with default settings."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        x = random.standard_normal((64, 1000), np.float32)
        np.savez(path, x=x, y=random.standard_normal((64, 10), np.float32))
        pinned = stack.enter_context(Worker(sys.executable, PROJECT_JOBS, bench.cores))
        default = stack.enter_context(Worker(sys.executable, PROJECT_JOBS))
        settings = {"path": path, "steps": STEPS}
        pinned_jobs: dict[str, Job] = {
            form: partial(pinned.run, "reference", form=form, **settings)
            for form in pinned.run("forms")["names"]
        }
        if bench.peers:
            jax = stack.enter_context(Worker(bench.peers, PEER_JOBS, bench.cores))
            pinned_jobs["jax_scan"] = partial(jax.run, "jax_scan", **settings)
        default_jobs: dict[str, Job] = {
            form: partial(default.run, "reference", form=form, **settings)
            for form in ("engine", "plain")
        }
        title = f"reference setup, {STEPS} steps, threads: {len(bench.cores)}"
        return {
            "pinned": time_forms(bench, title, pinned_jobs),
            "default": time_forms(bench, "the same, default settings", default_jobs),
        }


def time_forms(bench: Bench, title: str, jobs: Mapping[str, Job]) -> dict[str, object]:
    """Run all forms in every round; print and return the medians by form."""
    for job in jobs.values():
        job(seed=0)  # warm-up
    results: dict[str, list[Result]] = {form: [] for form in jobs}
    for number in range(bench.rounds):
        for form, job in jobs.items():
            results[form].append(job(seed=number))
    table = new_table(title, "us per step", "engine / this", "last loss")
    document: dict[str, object] = {}
    for form, rounds in results.items():
        microseconds = statistics.median(seconds(rounds)) / STEPS * 1e6
        ratio = statistics.median(ratios(seconds(results["engine"]), seconds(rounds)))
        figures = {"us_per_step": microseconds, "engine_to_this": ratio}
        if form != "floor":  # The floor fits nothing.
            figures["loss"] = statistics.median(result["loss"] for result in rounds)
        loss = f"{figures['loss']:.2g}" if form != "floor" else ""
        table.add_row(form, f"{microseconds:.0f}", f"{ratio:.2f}", loss)
        document[form] = figures
    bench.console.print(table, "")
    return document


def tables(bench: Bench) -> dict[str, object]:
    """Fit each table with every library and seed; print and return the figures by table."""
    document: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        project = stack.enter_context(Worker(sys.executable, PROJECT_JOBS, bench.cores))
        workers = {"table": project}
        for peer in PEERS if bench.peers else ():
            workers[peer] = stack.enter_context(Worker(str(bench.peers), PEER_JOBS, bench.cores))
        project.run("prepare", name="digits", seed=0, path=path)
        for job, worker in workers.items():
            worker.run(job, path=path, epochs=1, seed=0)  # warm-up: imports and page faults
        for name, epochs in EPOCHS.items():
            results: dict[str, list[Result]] = {job: [] for job in workers}
            for seed in range(bench.seeds):
                rows = project.run("prepare", name=name, seed=seed, path=path)["rows"]
                for job, worker in workers.items():
                    results[job].append(worker.run(job, path=path, epochs=epochs, seed=seed))
            title = f"{name}: {rows['train']} rows to fit, {epochs} epochs, {bench.seeds} seeds"
            document[name] = print_fits(bench, title, name, results)
    return document


def print_fits(
    bench: Bench, title: str, name: str, results: Mapping[str, Sequence[Result]]
) -> dict[str, object]:
    """Print and return durations and test quality of one table by library."""
    metric = "accuracy" if name == "digits" else "R2"
    headings = "seconds", "this / fit", f"test {metric}", "fit - this"
    table = new_table(f"{title}, threads: {len(bench.cores)}", *headings)
    document: dict[str, object] = {}
    fit = results["table"]
    for job, rounds in results.items():
        differences = [a["quality"] - b["quality"] for a, b in zip(fit, rounds, strict=True)]
        duration = statistics.median(seconds(rounds))
        ratio = statistics.median(ratios(seconds(rounds), seconds(fit)))
        quality = statistics.mean(result["quality"] for result in rounds)
        difference = statistics.mean(differences)
        error = statistics.stdev(differences) / len(differences) ** 0.5
        document[job] = {
            "seconds": duration,
            "this_to_fit": ratio,
            metric: quality,
            "fit_minus_this": difference,
            "standard_error": error,
        }
        label = "fit" if job == "table" else job
        advantage = "" if job == "table" else f"{difference:+.4f} +- {error:.4f}"
        table.add_row(label, f"{duration:.3f}", f"{ratio:.2f}", f"{quality:.4f}", advantage)
    bench.console.print(table, "")
    return document


def seconds(results: Sequence[Result]) -> list[float]:
    """Return the duration of each result."""
    return [result["seconds"] for result in results]


def run_part(bench: Bench, part: str, max_rows: int) -> object:
    """Run one part; print its tables, and return its document."""
    if part == "reference":
        return reference(bench)
    if part == "tables":
        return tables(bench)
    return growth(max_rows, bench.console)


def main() -> None:
    """Run the parts, then print the JSON document."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("parts", nargs="*", type=one_of(PARTS), help="parts to run")
    add("--seeds", type=int, default=10, help="seeds of the tables part (default: 10)")
    add("--rounds", type=int, default=15, help="rounds of the reference part (default: 15)")
    add("--threads", type=int, default=1, help="cores and threads of these two (default: 1)")
    add("--max-rows", type=int, default=10**7, help="rows of the growth part (default: 10000000)")
    add("--peers", type=Path, default=PEERS_PYTHON, help="interpreter of the peers' environment")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: expected at least 2, for the standard error of a mean")
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench(
        console=new_console(),
        peers=arguments.peers if arguments.peers.exists() else None,
        cores=cores[: arguments.threads],
        rounds=arguments.rounds,
        seeds=arguments.seeds,
    )
    if not bench.peers:
        print(f"{arguments.peers} is missing, so the peers are left out", file=sys.stderr)
    document: dict[str, object] = {"cores": len(cores), "threads": len(bench.cores)}
    for part in arguments.parts or PARTS:
        document[part] = run_part(bench, part, arguments.max_rows)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
