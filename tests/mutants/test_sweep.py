"""The long sweep: every mutant of seven networks, a million rows of healthy ones. Takes minutes.

`pytest -m mutants tests/mutants` prints which checks reject each mutant, and the figures in JSON.
"""

import collections
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from export.proof.numerical import Comparison
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
"""The networks with mutants."""
SWEPT = (
    *MUTATED,
    Shape("classification", 1, 2, 2),
    Shape("regression", 1, 4096, 1),
    Shape("regression", 4096, 1, 1),
    Shape("classification", 4096, 4096, 2),
)
"""The healthy networks."""
MAX_PRODUCTS_WITH_SEEDS = 2**20
"""Products of the first layer up to which two networks are drawn for every scale and regime."""
MIN_ROWS = 10**6
MAX_OUT_OF_RANGE_SHARE = 0.05


@dataclass(frozen=True)
class Verdicts:
    """What became of mutants: messages of rejections by mutant and network."""

    alarms: list[str] = field(default_factory=list)
    """Messages against healthy artifacts."""
    checks: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    commands: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)


def mutate(shape: Shape) -> Verdicts:
    """Publish a network; run every check, and the real commands, on every mutant of it."""
    torch.set_num_threads(1)
    verdicts, cache = Verdicts(), checks.Cache()
    with tempfile.TemporaryDirectory() as place:
        subject = published(shape, Path(place))
        verdicts.alarms.extend(dict(cache.rejections(subject)).values())
        verdicts.alarms.extend(checks.run_commands(subject, Path(place) / "healthy").values())
        for name, mutant in MUTANTS.items():
            try:
                mutated = mutant(subject)
            except DoesNotApplyError:
                continue
            verdicts.checks[name, str(shape)] = dict(cache.rejections(mutated))
            if "serving" not in mutated.faults:  # the commands open that session themselves
                with tempfile.TemporaryDirectory() as folder:
                    ended = checks.run_commands(mutated, Path(folder) / "artifacts")
                    verdicts.commands[name, str(shape)] = ended
    return verdicts


def sweep(shape: Shape) -> list[Comparison]:
    """Sweep healthy networks of one shape."""
    torch.set_num_threads(1)
    seeds = 2 if shape.products <= MAX_PRODUCTS_WITH_SEEDS else 1
    return [c for draw in healthy.draws(shape, seeds) for c in healthy.sweep(draw)]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """As many processes as there are cores, of one thread each."""
    with pytest.MonkeyPatch.context() as patch:
        for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(library, "1")
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            yield pool


@pytest.fixture(scope="module")
def comparisons(pool: ProcessPoolExecutor) -> list[Comparison]:
    """The sweeps of healthy networks; the widest take longest, and start first."""
    order = sorted(SWEPT, key=lambda shape: shape.products, reverse=True)
    return [c for comparisons in pool.map(sweep, order) for c in comparisons]


@pytest.fixture(scope="module")
def verdicts(pool: ProcessPoolExecutor) -> Verdicts:
    """The verdicts on all mutants of all networks."""
    total = Verdicts()
    for verdicts in pool.map(mutate, reversed(MUTATED)):
        total.alarms.extend(verdicts.alarms)
        total.checks.update(verdicts.checks)
        total.commands.update(verdicts.commands)
    return total


def survivors(verdicts: Verdicts) -> list[tuple[str, str]]:
    """Return the mutants that no check of their kind rejects."""
    line = {"claim": checks.RUN}
    return [
        (name, shape)
        for (name, shape), messages in verdicts.checks.items()
        if MUTANTS[name].kind != "outside"
        and not messages.keys() & line.get(MUTANTS[name].kind, checks.VERIFY).keys()
    ]


def test_no_mutant_survives(verdicts: Verdicts) -> None:
    """On any network; and every mutant applies to one of them."""
    assert [] == survivors(verdicts)
    assert MUTANTS.keys() == {name for name, _ in verdicts.checks}


def test_commands_reject_what_their_checks_reject(verdicts: Verdicts) -> None:
    """The real commands agree with their checks, and neither a hash nor a traceback decides."""
    for mutant, messages in verdicts.commands.items():
        for message in messages.values():
            assert "SHA-256" not in message, mutant
            assert not message.startswith(checks.TRACEBACK), mutant
        for command in ("serve", "verify"):
            killers = checks.COMMANDS[command].keys() & verdicts.checks[mutant].keys()
            assert bool(killers) == (command in messages), mutant


def test_healthy_networks_raise_no_alarm(verdicts: Verdicts, comparisons: list[Comparison]) -> None:
    """Neither the published artifacts nor a million rows at every input scale."""
    assert [] == verdicts.alarms
    assert all(comparison.passed for comparison in comparisons)
    in_range, out_of_range = healthy.count_rows(comparisons)
    assert MIN_ROWS <= in_range
    assert out_of_range <= MAX_OUT_OF_RANGE_SHARE * (in_range + out_of_range)


def test_figures(
    verdicts: Verdicts, comparisons: list[Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    """Print the checks that reject each mutant, and the closing figures."""
    killers = {name: collections.Counter[str]() for name, _ in verdicts.checks}
    for (name, _), messages in verdicts.checks.items():
        killers[name].update(["networks", *messages])
    texts = [text for ended in verdicts.commands.values() for text in ended.values()]
    document = {
        "networks": [str(shape) for shape in MUTATED],
        "mutants": len(verdicts.checks),
        "kinds": collections.Counter(MUTANTS[name].kind for name in killers),
        "survivors": survivors(verdicts),
        "killed_by_hash": sum("SHA-256" in text for text in texts),
        **healthy.figures(comparisons),
    }
    with capsys.disabled():
        print("\nBy mutant: its networks, and by check the number of those on which it rejects it")
        for name, counts in killers.items():
            print(f"{name:60}", ", ".join(f"{check} {n}" for check, n in counts.items()))
        print(json.dumps(document, indent=1))
