"""The proof is tested: it rejects every mutant, needs every check, and accepts healthy networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from export.proof.bound import Float32Array
from service.artifact import storage
from service.artifact.manifest import ArtifactError
from service.runtime.session import Outputs, Session
from tests.mutants import MUTANTS, DoesNotApplyError, Subject, checks, healthy, integrity
from tests.mutants.documents import STALE_GOLDEN
from tests.mutants.networks import Shape, subject_of
from tests.mutants.subject import Mutant
from tests.trained import Trained

NEEDED = {
    "schema": ("build", "manifest: a key twice"),
    "scan": ("serve", "onnx: opset 13"),
    "opens": ("serve", "onnx: width of the input restated"),
    "signature": ("serve", "onnx: outputs in another order"),
    "golden": ("serve", "onnx: one weight +1 %"),
    "weights": ("verify", "weights: a weight is NaN"),
    "description": ("build", "manifest: a failed comparison"),
    "derived": ("build", "README.md: edited"),
    "golden derived": ("build", "golden: a bound widened to 1e30"),
    "pictures": ("build", "proof.png: no picture"),
    "code": ("build", "torchscript: bytecode for mobile runtimes"),
    "structure, onnx": ("build", "onnx: one weight off by one ULP"),
    "canonical bytes, onnx": ("build", "onnx: tensors in another order"),
    "structure, torchscript": ("build", "torchscript: one weight off by one ULP"),
    "bound, onnxruntime": ("build", "runtime, onnxruntime: softmax without its maximum"),
    "bound, torchscript": ("build", "runtime, torchscript: remainder of a batch forgotten"),
    "contagion, onnxruntime": ("build", "runtime, onnxruntime: NaN swallowed"),
    "contagion, torchscript": ("build", "runtime, torchscript: NaN spreads to other rows"),
    "run": ("build", "claim: classes permuted"),
}
"""By check: the command with the most checks of which it alone rejects a mutant, and the mutant."""


@dataclass(frozen=True)
class Network:
    """An artifact, its mutants, and the checks that reject them."""

    subject: Subject
    cache: checks.Cache
    killers: Mapping[str, dict[str, str]]
    """By mutant that applies, then by check: its message."""


def sweep(made: Trained, mutants: Mapping[str, Mutant]) -> Network:
    """Make mutants of an artifact, and run every check on each."""
    subject, cache = subject_of(made.run, made.artifact), checks.Cache()
    killers = {}
    for name, mutant in mutants.items():
        try:
            killers[name] = cache.messages(mutant(subject))
        except DoesNotApplyError:
            continue
    return Network(subject, cache, killers)


@pytest.fixture(scope="module")
def classifier(flowers: Trained) -> Network:
    """All mutants of 4-16-3."""
    return sweep(flowers, MUTANTS)


@pytest.fixture(scope="module")
def regressor(houses: Trained, classifier: Network) -> Network:
    """The mutants of 3-16-1 that a classifier cannot have."""
    return sweep(houses, {n: m for n, m in MUTANTS.items() if n not in classifier.killers})


def test_healthy_artifacts_are_accepted(classifier: Network, regressor: Network) -> None:
    """No check rejects what export published."""
    assert {} == classifier.cache.messages(classifier.subject)
    assert {} == regressor.cache.messages(regressor.subject)


def test_no_mutant_survives(classifier: Network, regressor: Network) -> None:
    """Every mutant is rejected from the artifact alone, a claim with the run; `outside` by none."""
    killers = {**classifier.killers, **regressor.killers}
    line = {"claim": checks.CHECKS, "outside": {}}
    survivors = {
        name
        for name, messages in killers.items()
        if not messages.keys() & line.get(MUTANTS[name].kind, checks.VERIFY).keys()
    }
    assert {name for name in killers if MUTANTS[name].kind == "outside"} == survivors
    assert set() == {n for n in survivors if killers[n]}


def test_only_the_run_contradicts_a_claim(classifier: Network) -> None:
    """What verify cannot know is known; golden.json shows a claim about weights on this network."""
    for name, messages in classifier.killers.items():
        if MUTANTS[name].kind == "claim":
            expected = {"run", "golden derived"} if name.endswith(STALE_GOLDEN) else {"run"}
            assert expected == set(messages), name


@pytest.mark.parametrize("check", checks.CHECKS)
def test_every_check_is_needed(classifier: Network, check: str, tmp_path: Path) -> None:
    """Without this check a named mutant survives; the real command rejects it with its message."""
    command, name = NEEDED[check]
    messages = classifier.killers[name]
    assert {check} == messages.keys() & checks.COMMANDS[command].keys()
    if check != "run":
        ended = checks.run_commands(MUTANTS[name](classifier.subject), tmp_path)
        assert messages[check] in ended["serve" if command == "serve" else "verify"]


@pytest.mark.parametrize("damage", integrity.DAMAGE)
def test_damage_is_seen_by_hashes(artifact: Path, damage: str) -> None:
    """What is not re-packed is rejected before anything is parsed."""
    integrity.DAMAGE[damage](artifact)
    with pytest.raises(
        ArtifactError, match=r"expected SHA-256|SHA256SUMS|is missing|unexpected file|regular file"
    ):
        storage.read_artifact(artifact)


def test_every_flipped_bit_is_seen(artifact: Path) -> None:
    """1,000 random bits, in every file in turn."""
    flips = 0
    for place in integrity.random_flips(artifact, 1000):
        flips += 1
        with pytest.raises(ArtifactError, match="SHA"):
            print(place, storage.read_artifact(artifact).digest)
    assert 1000 == flips
    storage.read_artifact(artifact)


@pytest.mark.parametrize(
    "shape", [Shape("regression", 1, 1, 1), Shape("classification", 64, 100, 10)]
)
def test_healthy_networks_raise_no_alarm(shape: Shape) -> None:
    """At input scales 1e-30, 1 and 1e30, in every regime, each row in range is within its bound."""
    comparisons = [
        comparison
        for draw in healthy.draws(shape, seeds=1, scales=(-30, 0, 30))
        for comparison in healthy.sweep(draw, max_rows=256)
    ]
    assert [] == healthy.figures(comparisons)["false_alarms"]
    in_range, out_of_range = healthy.count_rows(comparisons)
    assert 9 * 256 == in_range + out_of_range
    assert out_of_range <= 0.05 * 9 * 256
    assert 0 < max(c.max_error_over_bound for c in comparisons) < 1


def test_a_sweep_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer off by 1 % is an alarm, so that no alarm is evidence."""
    run = Session.run

    def off(session: Session, rows: Float32Array) -> Outputs:
        return {name: v * v.dtype.type(1.01) for name, v in run(session, rows).items()}

    monkeypatch.setattr(Session, "run", off)
    draw = healthy.Draw(Shape("regression", 1, 1, 1), 0, "matched", 0)
    failed = [c for c in healthy.sweep(draw, max_rows=16) if not c.passed]
    assert ["onnxruntime"] == [comparison.runtime for comparison in failed]
