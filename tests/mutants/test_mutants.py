"""The checker is checked: no mutant survives, no check is idle, and nothing healthy is refused."""

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from export import ProofError, to_torchscript, verify
from export.proof import numerical, prove
from export.proof.bound import Float32Array
from export.proof.numerical import Comparison
from export.proof.runtimes import SERVING_RUNTIME, Runtime, open_runtimes
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime import predictor, session
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.mutants import (
    MUTANTS,
    DoesNotApplyError,
    Subject,
    checks,
    faults,
    healthy,
    integrity,
    papers,
)
from tests.mutants.networks import Shape, subject_of
from tests.trained import Trained

ROOT = Path(__file__).resolve().parent.parent

ALONE = {
    "schema": ("all", "manifest: a key twice"),
    "scan": ("serve", "onnx: opset 13"),
    "opens": ("serve", "onnx: width of the input restated"),
    "signature": ("serve", "onnx: outputs in another order"),
    "golden": ("all", "runtime, serving: rows exchanged"),
    "weights": ("verify", "weights: a weight is NaN"),
    "description": ("all", "manifest: a failed comparison"),
    "derived": ("all", "README.md: edited"),
    "golden derived": ("all", "golden: a bound widened to 1e30"),
    "pictures": ("all", "proof.png: no picture"),
    "code": ("all", "torchscript: bytecode for mobile runtimes"),
    "structure, onnx": ("all", "onnx: one weight off by one ULP"),
    "canonical bytes, onnx": ("all", "onnx: tensors in another order"),
    "structure, torchscript": ("all", "torchscript: one weight off by one ULP"),
    "bound, onnxruntime": ("all", "runtime, onnxruntime: softmax without its maximum"),
    "bound, torchscript": ("all", "runtime, torchscript: remainder of a batch forgotten"),
    "contagion, onnxruntime": ("all", "runtime, onnxruntime: NaN swallowed"),
    "contagion, torchscript": ("all", "runtime, torchscript: NaN spreads to other rows"),
    "run": ("all", "claim: classes permuted"),
}
"""By check: the widest line of checks (of a server, of `export verify`, of all) in which it alone refuses a mutant."""

UNPROVED = ("claim", "outside")
"""Kinds of mutants that no check of the artifact alone can refuse."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A network, its mutants, and which checks refuse them."""

    subject: Subject
    memory: checks.Memory
    killers: Mapping[str, set[str]]
    """By mutant that applies: the checks."""


def asked(made: Trained) -> Asked:
    """Make every mutant of an artifact, and ask every check alone."""
    subject, memory = subject_of(made.run, made.artifact), checks.Memory()
    killers = {}
    for name, mutant in MUTANTS.items():
        try:
            killers[name] = set(memory.killers(mutant(subject)))
        except DoesNotApplyError:
            continue
    return Asked(subject, memory, killers)


@pytest.fixture(scope="module")
def classifier(flowers: Trained) -> Asked:
    """The mutants of 4-16-3."""
    return asked(flowers)


@pytest.fixture(scope="module")
def regressor(houses: Trained) -> Asked:
    """The mutants of 3-16-1."""
    return asked(houses)


def test_healthy_artifacts_are_refused_by_none(classifier: Asked, regressor: Asked) -> None:
    """No check says anything against what export published."""
    assert {} == classifier.memory.killers(classifier.subject)
    assert {} == regressor.memory.killers(regressor.subject)


def test_no_mutant_survives(classifier: Asked, regressor: Asked) -> None:
    """Over a hundred kinds, re-packed, are refused from the artifact alone."""
    applied = set()
    for network in (classifier, regressor):
        mutants = {
            name: killers
            for name, killers in network.killers.items()
            if MUTANTS[name].kind not in UNPROVED
        }
        assert [] == [name for name, killers in mutants.items() if not killers & set(checks.VERIFY)]
        applied |= set(mutants)
    assert 100 < len(applied)


def test_what_is_not_proved_is_known(classifier: Asked, regressor: Asked) -> None:
    """The run contradicts a claim, and what is outside the proof nothing does; a change here is to be told."""
    for network in (classifier, regressor):
        for name, killers in network.killers.items():
            if MUTANTS[name].kind == "claim":
                seen = (
                    {"golden derived"} if name.endswith(papers.STALE_GOLDEN) else set()
                )  # these are narrow networks
                assert {"run"} | seen == killers, name
            elif MUTANTS[name].kind == "outside":
                assert set() == killers, name


@pytest.mark.parametrize("check", checks.CHECKS)
def test_every_check_is_needed(classifier: Asked, check: str) -> None:
    """Without it a named mutant survives all the others of its line."""
    line, mutant = ALONE[check]
    assert {check} == classifier.killers[mutant] & set(checks.LINES[line])


@pytest.fixture
def scripted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `export verify` write the TorchScript that it compares with once per shape: each takes a process."""
    monkeypatch.setattr(to_torchscript, "to_torchscript", checks.written_once)


def nothing(*arguments: object) -> dict[str, Any]:
    """Stand where a check was."""
    return {}


DROPPED: dict[str, tuple[Callable[[Path], object], object, str]] = {
    "scan": (Predictor, session, "scan_onnx"),
    "signature": (Predictor, predictor, "check_signature"),
    "golden": (Predictor, predictor, "check_golden_rows"),
    "description": (verify.verify, verify, "check_description"),
    "derived": (verify.verify, verify, "check_derived"),
    "golden derived": (verify.verify, verify, "check_golden"),
    "pictures": (verify.verify, verify, "check_png"),
    "code": (verify.verify, verify, "check_code"),
    "structure, onnx": (verify.verify, prove, "prove_onnx"),
    "canonical bytes, onnx": (verify.verify, prove, "prove_onnx"),
    "structure, torchscript": (verify.verify, prove, "prove_torchscript"),
}
"""By check: the real command, and the name under which it asks."""


@pytest.mark.usefixtures("scripted_once")
@pytest.mark.parametrize("check", DROPPED)
def test_command_without_a_check_lets_its_mutant_pass(
    flowers: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    """The real command refuses the mutant, and only because of that check."""
    command, module, name = DROPPED[check]
    mutant = "onnx: one weight +1 %" if check == "golden" else ALONE[check][1]
    path = MUTANTS[mutant](subject_of(flowers.run, flowers.artifact)).write(
        tmp_path / "flowers" / "1"
    )
    with pytest.raises((ArtifactError, ProofError)):
        command(path)
    monkeypatch.setattr(module, name, nothing)
    command(path)


@pytest.mark.usefixtures("scripted_once")
@pytest.mark.parametrize("name", [SERVING_RUNTIME, "torchscript"])
@pytest.mark.parametrize("check", ["bound", "contagion"])
def test_command_without_a_check_trusts_its_runtime(
    flowers: Trained, monkeypatch: pytest.MonkeyPatch, name: str, check: str
) -> None:
    """A runtime that answers wrongly is refused by the real command, and only because of that check."""
    fault = faults.remainder_lost if check == "bound" else faults.nan_spread

    def faulty(*arguments: Any) -> tuple[dict[str, Runtime], dict[str, str]]:
        found, left_out = open_runtimes(*arguments)
        return {**found, name: fault(found[name], flowers.run.weights)}, left_out

    monkeypatch.setattr(prove, "open_runtimes", faulty)
    with pytest.raises(ProofError, match=name):
        verify.verify(flowers.artifact)
    if check == "contagion":
        monkeypatch.setattr(prove, "check_nonfinite_rows", lambda *arguments, **options: [])
    else:
        held = numerical.compare_outputs

        def passed(*arguments: Any) -> Iterator[Comparison]:
            return (dataclasses.replace(comparison, passed=True) for comparison in held(*arguments))

        monkeypatch.setattr(numerical, "compare_outputs", passed)
    verify.verify(flowers.artifact)


@pytest.mark.parametrize("damage", integrity.DAMAGE)
def test_damage_is_seen_by_hashes(artifact: Path, damage: str) -> None:
    """What is not re-packed is refused before anything is parsed."""
    integrity.DAMAGE[damage](artifact)
    with pytest.raises(
        ArtifactError, match=r"expected SHA-256|SHA256SUMS|is missing|unexpected file|regular file"
    ):
        storage.read_artifact(artifact)


@pytest.mark.parametrize(
    "shape",
    [
        Shape("regression", 1, 1, 1),
        Shape("classification", 64, 100, 10),
        Shape("regression", 1000, 100, 10),
    ],
)
def test_healthy_networks_raise_no_alarm(shape: Shape) -> None:
    """At input scales 1e-30, 1 and 1e30, scaled or not, every answer in range is within its bound."""
    total = healthy.Tally()
    for exponent, regime in itertools.product((-30, 0, 30), healthy.REGIMES):
        total.add(healthy.sweep(healthy.Draw(shape, exponent, regime, 0), most_rows=256))
    assert [] == total.false_alarms
    assert 9 == total.draws
    assert 0.95 * 9 * 256 <= total.rows <= 9 * 256
    assert all(0 < worst < 1 for worst in total.worst.values())


def test_a_sweep_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer off by 1 % is an alarm, so that none means something."""
    run = Session.run

    def off(session: Session, rows: Float32Array) -> session.Outputs:
        return {
            name: values * values.dtype.type(1.01) for name, values in run(session, rows).items()
        }

    monkeypatch.setattr(Session, "run", off)
    tally = healthy.sweep(
        healthy.Draw(Shape("regression", 3, 16, 2), 0, "matched", 0), most_rows=16
    )
    assert ["onnxruntime"] == [alarm.split(",")[0] for alarm in tally.false_alarms]


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_sweep_asks_what_export_writes(which: str, request: pytest.FixtureRequest) -> None:
    """The sweep's short way to a model.onnx ends in the bytes of export."""
    made: Trained = request.getfixturevalue(which)
    assert (made.artifact / manifest.MODEL).read_bytes() == healthy.onnx_of(made.run.weights)


@pytest.mark.e2e
@pytest.mark.slow
def test_bench() -> None:
    """bench/proof.py on one small network ends with exit code 0 and one JSON document."""
    command = [sys.executable, "-m", "bench.proof", "--only", "4-4-3", "--seeds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert (["4-4-3 classification"], [], []) == tuple(
        document[key] for key in ("networks", "survivors", "healthy_false_alarms")
    )
