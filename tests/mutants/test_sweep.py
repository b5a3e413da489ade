"""The long sweep: every mutant of seven networks, a million rows of healthy ones. Takes minutes.

`pytest -m mutants tests/mutants` prints which checks reject each mutant, and the figures in JSON.
"""

import collections
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mutants import MUTANTS, DoesNotApplyError, checks, healthy
from tests.mutants.networks import Shape, published

pytestmark = pytest.mark.mutants

MUTATED = (
    Shape("regression", 1, 1, 1),
    Shape("classification", 4, 4, 3),
    Shape("regression", 16, 16, 2),
    Shape("classification", 64, 100, 10),
    Shape("regression", 1000, 100, 10),
    Shape("classification", 50, 4096, 3),
    Shape("classification", 4096, 64, 2),
)
SWEPT = (
    Shape("regression", 1, 1, 1),
    Shape("classification", 1, 2, 2),
    Shape("regression", 3, 16, 2),
    Shape("classification", 4, 4, 3),
    Shape("classification", 64, 100, 10),
    Shape("regression", 1000, 100, 10),
    Shape("regression", 1, 4096, 1),
    Shape("classification", 50, 4096, 3),
    Shape("regression", 4096, 1, 1),
    Shape("classification", 4096, 64, 2),
    Shape("classification", 4096, 4096, 2),
)
SEEDS = 2
MAX_PRODUCTS_WITH_SEEDS = 2**20
"""Products of the first layer above which a shape is swept with one seed."""
MIN_ROWS = 10**6
MAX_OUT_OF_RANGE_SHARE = 0.05
Messages = dict[str, dict[str, str]]
"""By mutant that applies, then by check or command: the message of the rejection."""


@dataclass(frozen=True)
class Verdicts:
    """What became of the mutants of one network."""

    shape: Shape
    alarms: list[str]
    """Messages against the healthy artifact."""
    killers: Messages
    commands: Messages


def mutate(shape: Shape) -> Verdicts:
    """Publish a network; run every check, and the real commands, on every mutant of it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place), checks.Cache()
        subject = published(shape, folder)
        ended = checks.run_commands(subject, folder / "healthy")
        alarms = [*cache.messages(subject).values(), *ended.values()]
        killers, commands = {}, {}
        for number, (name, mutant) in enumerate(MUTANTS.items()):
            try:
                mutated = mutant(subject)
            except DoesNotApplyError:
                continue
            killers[name] = cache.messages(mutated)
            if "serving" not in mutated.faults:  # the commands open that session themselves
                with tempfile.TemporaryDirectory() as copy:
                    commands[name] = checks.run_commands(mutated, Path(copy) / str(number))
        return Verdicts(shape, alarms, killers, commands)


def sweep(shape: Shape) -> healthy.Tally:
    """Sweep healthy networks of one shape."""
    torch.set_num_threads(1)
    total = healthy.Tally()
    for draw in healthy.draws(shape, SEEDS if shape.products <= MAX_PRODUCTS_WITH_SEEDS else 1):
        total.add(healthy.sweep(draw))
    return total


@dataclass(frozen=True)
class Sweep:
    """The results of all processes."""

    verdicts: list[Verdicts]
    tallies: dict[Shape, healthy.Tally]

    def rejections(self) -> Iterator[tuple[str, Verdicts]]:
        """Yield every mutant of every network."""
        for verdicts in self.verdicts:
            for name in verdicts.killers:
                yield name, verdicts


@pytest.fixture(scope="module")
def results() -> Iterator[Sweep]:
    """Run the whole sweep, in as many processes as there are cores."""
    with pytest.MonkeyPatch.context() as patch:
        for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(library, "1")  # one thread per process: each has a core
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context) as pool:
            # The widest networks take longest, and start first.
            order = sorted(SWEPT, key=lambda shape: shape.products, reverse=True)
            tallies = {shape: pool.submit(sweep, shape) for shape in order}
            verdicts = [pool.submit(mutate, shape) for shape in reversed(MUTATED)]
            yield Sweep(
                [future.result() for future in verdicts],
                {shape: future.result() for shape, future in tallies.items()},
            )


@pytest.fixture(scope="module")
def total(results: Sweep) -> healthy.Tally:
    """The sum of all sweeps of healthy networks."""
    total = healthy.Tally()
    for tally in results.tallies.values():
        total.add(tally)
    return total


def survivors(results: Sweep) -> list[str]:
    """Return the mutants that no check of their kind rejects, with the network."""
    line: dict[str, Mapping[str, Any]] = {"claim": checks.RUN}
    return [
        f"{name}, {verdicts.shape}"
        for name, verdicts in results.rejections()
        if MUTANTS[name].kind != "outside"
        and not line.get(MUTANTS[name].kind, checks.VERIFY).keys() & verdicts.killers[name].keys()
    ]


def test_no_mutant_survives(results: Sweep) -> None:
    """On any network; and every mutant applies to one of them."""
    assert [] == survivors(results)
    assert MUTANTS.keys() == {name for name, _ in results.rejections()}


def test_no_hash_sees_a_mutant(results: Sweep) -> None:
    """Mutants are re-packed: SHA256SUMS plays no part in their rejection, nor does a traceback."""
    for name, verdicts in results.rejections():
        for message in verdicts.commands.get(name, {}).values():
            assert "SHA-256" not in message, name
            assert not message.startswith(checks.TRACEBACK), name


def test_commands_reject_what_their_checks_reject(results: Sweep) -> None:
    """The real commands agree with their checks, run one by one."""
    for name, verdicts in results.rejections():
        for command in ("serve", "verify") if name in verdicts.commands else ():
            expected = bool(checks.COMMANDS[command].keys() & verdicts.killers[name].keys())
            assert expected == (command in verdicts.commands[name]), f"{name}, {verdicts.shape}"


def test_healthy_networks_raise_no_alarm(results: Sweep, total: healthy.Tally) -> None:
    """Neither the published artifacts nor a million rows at every input scale."""
    assert [] == [alarm for verdicts in results.verdicts for alarm in verdicts.alarms]
    assert [] == total.false_alarms
    assert MIN_ROWS <= total.rows
    assert total.out_of_range <= MAX_OUT_OF_RANGE_SHARE * (total.rows + total.out_of_range)


def test_figures(results: Sweep, total: healthy.Tally, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the checks that reject each mutant, and the closing figures."""
    by_mutant: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in MUTANTS
    }
    for name, verdicts in results.rejections():
        by_mutant[name].update(["networks", *verdicts.killers[name]])
    kinds = collections.Counter(MUTANTS[name].kind for name in by_mutant)
    messages = [
        message
        for name, verdicts in results.rejections()
        for message in verdicts.commands.get(name, {}).values()
    ]
    document = {
        "networks": [str(verdicts.shape) for verdicts in results.verdicts],
        "mutants": sum(len(verdicts.killers) for verdicts in results.verdicts),
        "kinds": dict(kinds),
        "survivors": survivors(results),
        "killed_by_hash": sum("SHA-256" in message for message in messages),
        "healthy_networks": total.draws,
        "healthy_rows": total.rows,
        "healthy_rows_out_of_range": total.out_of_range,
        "false_alarms": total.false_alarms,
        "max_error_over_bound": total.worst,
        "max_error_over_probable_bound": total.worst_probable,
    }
    with capsys.disabled():
        print("\nBy mutant: its networks, and by check the number of those on which it rejects it")
        for name, counts in by_mutant.items():
            print(f"{name:60}", ", ".join(f"{check} {n}" for check, n in counts.items()))
        print(json.dumps(document, indent=1))
