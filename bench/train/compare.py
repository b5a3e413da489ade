"""What a fit costs, beside its peers: seconds, test quality, and how both time and memory grow.

    python bench/train.py [reference | tables | growth | threads ...] [--seeds 10] [--rounds 15] [--threads 1]

reference   64 rows, 1000 -> 100 -> 10, squared error summed, Adam, 500 steps: the engine; the floor, which is a step's
            products and its Adam alone; the plain loop; the lessons; and JAX with all steps in one lax.scan
tables      digits, 50 epochs, and 200,000 x 50 numbers, 5 epochs, hidden 100, batches of 64: the fit, which looks at
            the validation rows every epoch; and, which do not, scikit-learn, skorch, Lightning, a DataLoader's loop
growth      seconds and peak memory of `python -m model train`, against rows and hidden features, drawn as a plot
threads     a step on 1, 2, 4, ... threads, shape by shape: where the rule in model/train.py comes from

The first three unless told. Everything runs in one process tree, each library in a process of its own, of which only
one works at a time: rounds alternate, and a ratio is the median of the rounds' ratios. `make bench-train` makes the
peers' environment. The last line of stdout is one JSON document. Linux only, which can hold a process to some cores.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.table import Table
from train_growth import growth, thread_grid

BENCH = Path(__file__).resolve().parent
STEPS = 500
EPOCHS = {"digits": 50, "synthetic": 5}
"""Of each table."""
PEERS = ("scikit_learn", "skorch", "lightning", "dataloader")
CURVE_SEED = 0


class Worker:
    """A process that measures: it does one job at a time, and otherwise waits."""

    def __init__(self, python: Path | str, script: str, cores: Sequence[int] = ()) -> None:
        """Start it, held to the given cores and to as many threads; with none, as a person would start it."""
        environment = os.environ | {"PYTHONPATH": str(BENCH.parent)}
        if cores:
            environment |= dict.fromkeys(
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(len(cores))
            )
        if len(cores) == 1:
            environment["XLA_FLAGS"] = (
                "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            )
        self.process = subprocess.Popen(
            [str(python), str(BENCH / script)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(os.sched_setaffinity, 0, cores) if cores else None,
        )

    def ask(self, job: str, **arguments: object) -> dict[str, Any]:
        """Have a job done; return its answer."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps({"job": job, **arguments}), file=self.process.stdin, flush=True)
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"{job} ended with exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.process.communicate()


def reference(
    python: Path, cores: Sequence[int], rounds: int, console: Console
) -> dict[str, object]:
    """Time the reference set-up in every form on the given cores, then the engine and the plain loop on all."""
    random = np.random.default_rng(0)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        np.savez(
            path,
            x=random.standard_normal((64, 1000), np.float32),
            y=random.standard_normal((64, 10), np.float32),
        )
        ours = stack.enter_context(Worker(sys.executable, "train_ours.py", cores))
        free = stack.enter_context(Worker(sys.executable, "train_ours.py"))
        jax = stack.enter_context(Worker(python, "train_peers.py", cores))
        names: list[str] = ours.ask("forms")["names"]
        for group, forms in {"held": [*names, "jax_scan"], "default": ["engine", "plain"]}.items():
            found[group] = {form: [] for form in forms}
            for number in range(-1, rounds):  # the first is to warm up
                for form, answers in found[group].items():
                    arguments = {"path": path, "steps": STEPS, "seed": max(0, number)}
                    if form == "jax_scan":
                        answer = jax.ask(form, **arguments)
                    else:
                        answer = (ours if group == "held" else free).ask(
                            "reference", form=form, **arguments
                        )
                    if number >= 0:
                        answers.append(answer)
    titles = {
        "held": f"reference set-up, {STEPS} steps, threads: {len(cores)}",
        "default": "the same, default settings",
    }
    result: dict[str, object] = {}
    for group, answers_of in found.items():
        table = columns(titles[group], "us per step", "engine / it", "last loss")
        result[group] = figures = {}
        for form, answers in answers_of.items():
            microseconds = median(answers, "seconds") / STEPS * 1e6
            ratio = ratio_of(answers_of["engine"], answers)
            figures[form] = {"us_per_step": microseconds, "engine_to_it": ratio}
            if form != "floor":  # it fits nothing
                figures[form]["loss"] = median(answers, "loss")
            table.add_row(
                form,
                f"{microseconds:.0f}",
                f"{ratio:.2f}",
                f"{figures[form]['loss']:.2g}" if form != "floor" else "",
            )
        console.print(table, "")
    return result


def tables(python: Path, cores: Sequence[int], seeds: int, console: Console) -> dict[str, object]:
    """Fit the tables with every seed and every library; then hold a loss curve to a plain loop's."""
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/rows.npz"
        ours = stack.enter_context(Worker(sys.executable, "train_ours.py", cores))
        workers = {"table": ours} | {
            peer: stack.enter_context(Worker(python, "train_peers.py", cores)) for peer in PEERS
        }
        ours.ask("prepare", name="digits", seed=0, path=path)
        for job, worker in workers.items():
            worker.ask(job, path=path, epochs=1, seed=0)  # imports, first touches
        for name, epochs in EPOCHS.items():
            found: dict[str, list[dict[str, float]]] = {job: [] for job in workers}
            for seed in range(seeds):
                rows = ours.ask("prepare", name=name, seed=seed, path=path)["rows"]
                for job, worker in workers.items():
                    found[job].append(worker.ask(job, path=path, epochs=epochs, seed=seed))
            ours.ask("prepare", name=name, seed=CURVE_SEED, path=path)
            curve = ours.ask("curve", path=path, epochs=epochs, seed=CURVE_SEED)

            quality = "accuracy" if name == "digits" else "R2"
            title = f"{name}: {rows['train']} rows to fit, {epochs} epochs, {seeds} seeds, threads: {len(cores)}"
            table = columns(title, "seconds", "it / ours", f"test {quality}", "ours - it")
            figures = {}
            for job, answers in found.items():
                differences = [
                    a["quality"] - b["quality"]
                    for a, b in zip(found["table"], answers, strict=True)
                ]
                error = statistics.stdev(differences) / seeds**0.5
                figures[job] = {
                    "seconds": median(answers, "seconds"),
                    "times_ours": ratio_of(answers, found["table"]),
                    quality: statistics.mean(answer["quality"] for answer in answers),
                    "ours_better_by": statistics.mean(differences),
                    "standard_error": error,
                }
                seconds, times, mean, better, _ = figures[job].values()
                difference = "" if job == "table" else f"{better:+.4f} +- {error:.4f}"
                label = "ours" if job == "table" else job
                table.add_row(label, f"{seconds:.3f}", f"{times:.2f}", f"{mean:.4f}", difference)
            console.print(table)
            console.print(
                f"training loss by epoch, seed {CURVE_SEED}: ours and a plain loop's differ by at most "
                f"{curve['float32']:.1e} of it in float32, {curve['float64']:.1e} in float64;\n"
                f"the plain loop's in float32 and in float64 by {curve['rounding']:.1e}\n"
            )
            result[name] = figures | {"loss_curve": curve}
    return result


def columns(title: str, *names: str) -> Table:
    """Begin a table whose first column holds names."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def median(answers: Sequence[Mapping[str, float]], key: str) -> float:
    """Return the median of one figure over the rounds."""
    return statistics.median(answer[key] for answer in answers)


def ratio_of(above: Sequence[Mapping[str, float]], below: Sequence[Mapping[str, float]]) -> float:
    """Return the median of the rounds' ratios of seconds."""
    return statistics.median(a["seconds"] / b["seconds"] for a, b in zip(above, below, strict=True))


def main() -> None:
    """Run the parts that are asked for; print their tables, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", default=["reference", "tables", "growth"]
    )
    parser.add_argument("--seeds", type=int, default=10, help="of the tables")
    parser.add_argument("--rounds", type=int, default=15, help="of the reference set-up")
    parser.add_argument(
        "--threads", type=int, default=1, help="of reference and tables: as many cores are used"
    )
    parser.add_argument("--most-rows", type=int, default=10**7, help="of growth")
    parser.add_argument(
        "--peers", type=Path, default=BENCH.parent / ".peers" / "train" / "bin" / "python"
    )
    arguments = parser.parse_args()
    known = ("reference", "tables", "growth", "threads")
    if unknown := set(arguments.parts) - set(known):
        parser.error(
            f"unknown part: {', '.join(sorted(unknown))}; expected some of {', '.join(known)}"
        )
    if arguments.seeds < 2:
        parser.error("--seeds: expected at least 2, for the error of a mean")
    if {"reference", "tables"} & set(arguments.parts) and not arguments.peers.exists():
        parser.error(f"{arguments.peers} is missing: make bench-train makes it")
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=120)
    document: dict[str, object] = {"cores": len(os.sched_getaffinity(0)), "threads": len(cores)}
    for part in arguments.parts:
        if part == "reference":
            document[part] = reference(arguments.peers, cores, arguments.rounds, console)
        elif part == "tables":
            document[part] = tables(arguments.peers, cores, arguments.seeds, console)
        elif part == "growth":
            document[part] = growth(arguments.most_rows, BENCH / "out" / "growth.png", console)
        else:
            with Worker(sys.executable, "train_ours.py") as worker:
                document[part] = thread_grid(worker.ask, console)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
