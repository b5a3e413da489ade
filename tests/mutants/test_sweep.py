"""All mutants of seven networks, and a million rows of correct networks; takes minutes.

`pytest -m mutants tests/mutants` prints which checks reject each mutant, and a summary in JSON.
"""

import collections
import contextlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from export.proof.numerical import Comparison
from tests.mutants import MUTANTS, DoesNotApplyError, Subject, checks, healthy
from tests.mutants.networks import Shape, publish

pytestmark = pytest.mark.mutants

MUTATED_SHAPES = (
    Shape("regression", 1, 1, 1),
    Shape("classification", 4, 4, 3),
    Shape("regression", 16, 16, 2),
    Shape("classification", 64, 100, 10),
    Shape("regression", 1000, 100, 10),
    Shape("classification", 50, 4096, 3),
    Shape("classification", 4096, 64, 2),
)
"""Shapes of the networks of which mutants are made."""
CORRECT_SHAPES = (
    *MUTATED_SHAPES,
    Shape("classification", 1, 2, 2),
    Shape("regression", 1, 4096, 1),
    Shape("regression", 4096, 1, 1),
    Shape("classification", 4096, 4096, 2),
)
"""Shapes of the networks that are swept unchanged."""
MAX_PRODUCTS_WITH_SEEDS = 2**20
"""Maximum number of first-layer multiplications per row for which two networks are drawn."""
HEALTHY = "healthy"
CASES: dict[str, Callable[[Subject], Subject]] = {HEALTHY: lambda subject: subject, **MUTANTS}
"""Mutants by name, and the unchanged network as HEALTHY."""
MIN_ROWS = 10**6
MAX_OUT_OF_RANGE_SHARE = 0.05


@dataclass(frozen=True)
class Verdict:
    """Rejection messages for one mutant of one network, by check and by command."""

    checks: dict[str, str]
    commands: dict[str, str] | None
    """None for a fault of the serving session, because the commands open their own session."""


Verdicts = dict[tuple[str, str], Verdict]
"""Verdicts by the names of the mutant and of the network."""


def judge(shape: Shape) -> Verdicts:
    """Publish a network, and run all checks and the real commands on each of its mutants."""
    torch.set_num_threads(1)
    verdicts, cache = Verdicts(), checks.Cache()
    with tempfile.TemporaryDirectory() as root:
        subject = publish(shape, Path(root))
        for name, mutant in CASES.items():
            with contextlib.suppress(DoesNotApplyError), tempfile.TemporaryDirectory() as folder:
                mutated, commands = mutant(subject), None
                if "serving" not in mutated.faults:
                    commands = checks.run_commands(mutated, Path(folder) / "artifacts")
                verdicts[name, str(shape)] = Verdict(dict(cache.rejections(mutated)), commands)
    return verdicts


def sweep(shape: Shape) -> list[Comparison]:
    """Return the comparisons of correct networks of one shape."""
    torch.set_num_threads(1)
    seeds = 2 if shape.products <= MAX_PRODUCTS_WITH_SEEDS else 1
    return [c for draw in healthy.draws(shape, seeds) for c in healthy.sweep(draw)]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A pool of single-threaded processes, one per core."""
    with pytest.MonkeyPatch.context() as patch:
        for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(library, "1")
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            yield pool


@pytest.fixture(scope="module")
def comparisons(pool: ProcessPoolExecutor) -> list[Comparison]:
    """The comparisons of correct networks; the widest start first, as they take longest."""
    order = sorted(CORRECT_SHAPES, key=lambda shape: shape.products, reverse=True)
    return [c for comparisons in pool.map(sweep, order) for c in comparisons]


@pytest.fixture(scope="module")
def verdicts(pool: ProcessPoolExecutor) -> Verdicts:
    """The rejections of all mutants of all networks."""
    return {key: v for part in pool.map(judge, reversed(MUTATED_SHAPES)) for key, v in part.items()}


def test_no_mutant_survives(verdicts: Verdicts) -> None:
    """Every mutant applies to some network; each is rejected unless its kind is `outside`."""
    for (name, shape), verdict in verdicts.items():
        if name != HEALTHY and MUTANTS[name].kind != "outside":
            required = checks.RUN if MUTANTS[name].kind == "claim" else checks.VERIFY
            assert verdict.checks.keys() & required.keys(), (name, shape)
    assert CASES.keys() == {name for name, _ in verdicts}


def test_commands_agree_with_their_checks(verdicts: Verdicts) -> None:
    """A command rejects a mutant if and only if a check does, with no hash error or traceback."""
    for mutant, verdict in verdicts.items():
        if verdict.commands is not None:
            for command in ("serve", "verify"):
                rejecting_checks = checks.COMMANDS[command].keys() & verdict.checks.keys()
                assert bool(rejecting_checks) == (command in verdict.commands), mutant
            for message in verdict.commands.values():
                assert "SHA-256" not in message, mutant
                assert not message.startswith(checks.TRACEBACK), mutant


def test_correct_networks_pass(verdicts: Verdicts, comparisons: list[Comparison]) -> None:
    """Unchanged artifacts and a million rows at all input scales pass every check."""
    for shape in MUTATED_SHAPES:
        assert Verdict({}, {}) == verdicts[HEALTHY, str(shape)]
    assert all(comparison.passed for comparison in comparisons)
    in_range, out_of_range = healthy.count_rows(comparisons)
    assert MIN_ROWS <= in_range
    assert out_of_range <= MAX_OUT_OF_RANGE_SHARE * (in_range + out_of_range)


def test_figures(
    verdicts: Verdicts, comparisons: list[Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    """Print the checks that reject each mutant, and the summary in JSON."""
    counts = {name: collections.Counter[str]() for name, _ in verdicts}
    for (name, _), verdict in verdicts.items():
        counts[name].update(["networks", *verdict.checks])
    with capsys.disabled():
        print("\nPer mutant: number of networks, and on how many of them each check rejects it")
        for name, count in counts.items():
            print(f"{name:60}", ", ".join(f"{check} {n}" for check, n in count.items()))
        print(json.dumps({"mutants": len(verdicts), **healthy.figures(comparisons)}, indent=1))
