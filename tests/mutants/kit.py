"""Whether the proof can be trusted: every mutant is refused, and by which check; no healthy file is.

    python -m bench.proof [--jobs 2] [--seeds 2] [--only 64-100-10]

Publishes networks of widths 1 to 4096, makes every mutant of tests/mutants of them, re-packed so that no hash can see
it, and asks every check alone. Then it asks healthy networks for rows of scales 1e-30 to 1e30. The last line of stdout
is one JSON document; exit code 1 if a mutant survives, a false alarm is raised, a check that no mutant needs is found,
or a command ends in a traceback.
"""

import argparse
import collections
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.artifact import storage
from service.artifact.manifest import ArtifactError
from tests.mutants import MUTANTS, DoesNotApplyError, Subject, checks, healthy, integrity, tensors
from tests.mutants.graph import both, change, edited
from tests.mutants.networks import SHAPES, Shape, published

PRECISIONS = {
    "one ULP": tensors.one_ulp,
    "bfloat16": tensors.bfloat16,
    "float16": tensors.float16,
    "int8": tensors.int8,
}
ROWS_WANTED = 10**6
MOST_OUT_OF_RANGE = 0.05
MOST_PRODUCTS = 2**20
"""Of a layer that more than one seed is spent on."""


@dataclass(frozen=True)
class Verdicts:
    """What became of the mutants of one network."""

    shape: Shape
    seconds: float
    alarms: list[str]
    """What was said against the healthy artifact."""
    killers: dict[str, dict[str, str]]
    """By mutant that applies, then by check: what it says."""
    commands: dict[str, dict[str, str]]
    """By mutant, then by command: what it says."""
    looseness: dict[str, tuple[float, float]]
    """By precision of the weights in model.onnx: largest error over the bound, and over the probable bound."""


def mutate(shape: Shape) -> Verdicts:
    """Publish a network, and ask every check about every mutant of it."""
    started = time.perf_counter()
    _one_thread()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subject, memory = published(shape, folder), checks.Memory()
        alarms = [
            *memory.killers(subject).values(),
            *checks.commands(subject, folder / "healthy").values(),
        ]
        killers, commands = {}, {}
        for name, mutant in MUTANTS.items():
            try:
                mutated = mutant(subject)
            except DoesNotApplyError:
                continue
            killers[name] = memory.killers(mutated)
            if mutant.kind != "fault":  # the commands open their own runtimes
                commands[name] = checks.commands(mutated, folder / "mutant")
                shutil.rmtree(folder / "mutant")
        return Verdicts(
            shape, time.perf_counter() - started, alarms, killers, commands, looseness(subject)
        )


def looseness(subject: Subject) -> dict[str, tuple[float, float]]:
    """Say how much of the bound weights of a lower precision use up: over 1, the bound alone sees them."""
    found = {}
    for name, how in PRECISIONS.items():
        try:
            mutated = edited(both(change(tensors.W1, how), change(tensors.W2, how)))(subject)
        except DoesNotApplyError:
            continue
        found[name] = checks.ratios(mutated)
    return found


def sweep(draws: list[healthy.Draw]) -> healthy.Tally:
    """Ask healthy networks of one shape."""
    _one_thread()
    tally = healthy.Tally()
    for draw in draws:
        tally.add(healthy.sweep(draw))
    return tally


def damaged(shape: Shape) -> dict[str, str]:
    """Damage an artifact without re-packing it; return what is said, by damage."""
    said = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subject = published(shape, folder)
        for name, damage in integrity.DAMAGE.items():
            damage(path := subject.write(folder / "mutant" / "1"))
            try:
                storage.read_artifact(path)
            except ArtifactError as error:
                said[name] = str(error).replace(str(folder), "")
            shutil.rmtree(folder / "mutant")
    return said


def main() -> None:
    """Print the matrix of mutants and checks, who needs which check, the healthy sweep, and the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--seeds", type=int, default=2, help="networks of each shape, scale and regime"
    )
    parser.add_argument(
        "--only",
        default="",
        help="widths to start with: a quick look; the required counts do not hold",
    )
    arguments = parser.parse_args()
    shapes = [shape for shape in SHAPES if str(shape).startswith(arguments.only)]
    swept = [shape for shape in healthy.SHAPES if str(shape).startswith(arguments.only)]
    started = time.perf_counter()
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    )  # a process per core, of one thread
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        # the widest take longest, and start first
        futures = {
            shape: pool.submit(mutate, shape)
            for shape in sorted(shapes, key=_products, reverse=True)
        }
        damage = pool.submit(damaged, shapes[0])
        work = [
            (shape, draws)
            for shape in sorted(swept, key=_products, reverse=True)
            for draws in _parts(shape, arguments.seeds)
        ]
        tallies = [(shape, pool.submit(sweep, draws)) for shape, draws in work]
        document = report_mutants([futures[shape].result() for shape in shapes])
        document |= report_integrity(damage.result())
        by_shape = {shape: healthy.Tally() for shape in swept}
        for shape, future in tallies:
            by_shape[shape].add(future.result())
        document |= report_healthy(by_shape)
    document["seconds"] = round(time.perf_counter() - started)
    print(json.dumps(document))
    wrong = [
        name
        for name in (
            "survivors",
            "killed_by_hash",
            "tracebacks",
            "disagreements",
            "unneeded_checks",
        )
        if document[name]
    ]
    wrong += (
        ["alarms"]
        if document["alarms"] or document["healthy_false_alarms"] or document["integrity_survivors"]
        else []
    )
    if not arguments.only:
        wrong += ["too few kinds"] if document["kinds_killed"] < 40 or len(shapes) < 5 else []
        wrong += ["too few rows"] if document["healthy_rows"] < ROWS_WANTED else []
        wrong += ["out of range"] if document["healthy_out_of_range"] > MOST_OUT_OF_RANGE else []
    sys.exit(", ".join(wrong) or 0)


def report_mutants(found: list[Verdicts]) -> dict[str, Any]:
    """Print who killed whom, and return the figures."""
    for verdicts in found:
        healthy_too = f"healthy: {verdicts.alarms or 'passed'}"
        print(
            f"{verdicts.shape}: {len(verdicts.killers)} mutants in {verdicts.seconds:.0f} s; {healthy_too}"
        )
    letters = dict(zip(checks.CHECKS, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", strict=False))
    print("\n" + "\n".join(f"{letter}  {name}" for name, letter in letters.items()))
    print("\n# on every network that the mutant applies to (n), or on how many; . on none\n")
    print(f"{'':62}{'kind':>9} n {''.join(letters.values())}")
    survivors, outside = [], []
    for name, mutant in MUTANTS.items():
        rows = [verdicts.killers[name] for verdicts in found if name in verdicts.killers]
        cells = [
            "." if not hits else "#" if hits == len(rows) else str(hits)
            for hits in (sum(c in row for row in rows) for c in letters)
        ]
        print(f"{name:62}{mutant.kind:>9} {len(rows)} {''.join(cells)}  {first(rows)}")
        line = checks.RUN if mutant.kind == "claim" else checks.VERIFY
        if mutant.kind == "outside":
            outside += [name] if not any(rows) else []
        else:
            survivors += [
                f"{name}, {v.shape}"
                for v in found
                if name in v.killers and not set(line) & set(v.killers[name])
            ]
    needed = needs(found)
    print(
        "\nDrop a check, and these survive those that are left (of serve, of verify, of all with the run):"
    )
    for check, mutants in needed.items():
        print(
            f"  {check:24}"
            + "; ".join(
                f"{line}: {len(names)}, as '{names[0]}'" for line, names in mutants.items() if names
            )
        )
    print(
        "\nLargest error of weights of a lower precision, over the bound (and over the probable bound):"
    )
    for verdicts in found:
        print(
            f"  {verdicts.shape!s:28}"
            + "".join(
                f"{name:>10} {b:8.2g} ({p:.2g})" for name, (b, p) in verdicts.looseness.items()
            )
        )
    print(f"\nNothing can contradict: {'; '.join(outside)}")
    applied = {name for verdicts in found for name in verdicts.killers}
    said = [
        (name, command, text)
        for v in found
        for name, c in v.commands.items()
        for command, text in c.items()
    ]
    counts = collections.Counter(MUTANTS[name].kind for name in applied)
    for text in (*survivors, *disagreements(found)):
        print(f"WRONG: {text}")
    return {
        "networks": [str(verdicts.shape) for verdicts in found],
        "kinds": dict(counts),
        "kinds_killed": len(
            [name for name in applied if MUTANTS[name].kind in ("semantic", "form", "fault")]
        )
        - len(survivors),
        "mutants": sum(len(verdicts.killers) for verdicts in found),
        "survivors": survivors,
        "killed_by_hash": [name for name, _, text in said if "SHA-256" in text],
        "disagreements": disagreements(found),
        "tracebacks": sorted(
            {
                f"{command}: {name}: {text[:120]}"
                for name, command, text in said
                if text.startswith(checks.TRACEBACK)
            }
        ),
        "never_applied": sorted(MUTANTS.keys() - applied),
        "unneeded_checks": [
            check for check, mutants in needed.items() if not any(mutants.values())
        ],
        "alarms": [alarm for verdicts in found for alarm in verdicts.alarms],
        "outside_the_proof": outside,
    }


def first(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the check that refuses first, in the order of the commands, by what it says on the first network."""
    for row in rows:
        for name, said in row.items():
            return f"{name}: {said}"[:90].replace("\n", " ")
    return ""


def needs(found: list[Verdicts]) -> dict[str, dict[str, list[str]]]:
    """Return by check, and by line of checks: the mutants that it alone refuses on some network."""
    alone: dict[str, dict[str, list[str]]] = {
        check: {line: [] for line in checks.LINES} for check in checks.CHECKS
    }
    for line, asked in checks.LINES.items():
        for name in MUTANTS:
            for verdicts in found:
                killers = [check for check in verdicts.killers.get(name, {}) if check in asked]
                if len(killers) == 1 and name not in alone[killers[0]][line]:
                    alone[killers[0]][line].append(name)
    return alone


def disagreements(found: list[Verdicts]) -> list[str]:
    """Return where a real command says something else than its checks, asked one by one."""
    wrong = []
    for verdicts in found:
        for name, said in verdicts.commands.items():
            for command, asked in (("serve", checks.LOAD), ("verify", checks.VERIFY)):
                if (command in said) != bool(set(asked) & set(verdicts.killers[name])):
                    wrong.append(
                        f"{command}, {name}, {verdicts.shape}: {said.get(command, 'passes')}"
                    )
    return wrong


def report_integrity(said: Mapping[str, str]) -> dict[str, Any]:
    """Print what was damaged without re-packing, and return the figures."""
    survivors = [name for name in integrity.DAMAGE if name not in said]
    print(
        f"\nNot re-packed: {len(said)} of {len(integrity.DAMAGE)} kinds refused, by a hash or the list of files"
    )
    for name, text in said.items():
        print(f"  {name:36}{text[:90]}")
    return {"integrity_kinds": len(integrity.DAMAGE), "integrity_survivors": survivors}


def report_healthy(found: Mapping[Shape, healthy.Tally]) -> dict[str, Any]:
    """Print the sweep of healthy networks, and return the figures."""
    total = healthy.Tally()
    print(
        f"\n{'healthy':28}{'networks':>9}{'rows':>9}{'out of range':>13}{'alarms':>7}   error/bound (/probable)"
    )
    for shape, tally in found.items():
        total.add(tally)
        worst = "".join(
            f"  {name} {tally.worst[name]:.2g} ({tally.worst_probable[name]:.2g})"
            for name in tally.worst
        )
        print(
            f"{shape!s:28}{tally.draws:9}{tally.rows:9}{tally.out_of_range:13}{len(tally.false_alarms):7} {worst}"
        )
    share = total.out_of_range / max(1, total.rows + total.out_of_range)
    print(f"{'':28}{total.draws:9}{total.rows:9}{share:13.2%}{len(total.false_alarms):7}")
    return {
        "healthy_networks": total.draws,
        "healthy_rows": total.rows,
        "healthy_out_of_range": share,
        "healthy_false_alarms": total.false_alarms,
        "healthy_error_over_bound": total.worst,
        "healthy_error_over_probable_bound": total.worst_probable,
    }


def _parts(shape: Shape, seeds: int) -> list[list[healthy.Draw]]:
    """Split what a shape is asked into pieces of work; the widest layers are asked with one seed."""
    draws = list(healthy.draws(shape, seeds if _products(shape) <= MOST_PRODUCTS else 1))
    return [draws[start : start + 13] for start in range(0, len(draws), 13)]


def _products(shape: Shape) -> int:
    return shape.in_features * shape.hidden_features


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
