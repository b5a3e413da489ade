"""The proof rejects every mutant, needs each of its checks, and accepts correct networks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from export.proof.bound import Float32Array
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime.session import Outputs, Session
from tests.mutants import MUTANTS, DoesNotApplyError, Subject, checks, healthy
from tests.mutants.documents import STALE_GOLDEN
from tests.mutants.networks import Shape, subject_of
from tests.trained import Trained

UNIQUE_REJECTIONS = {
    "schema": ("build", "manifest: a key twice"),
    "scan": ("serve", "onnx: opset 13"),
    "opens": ("serve", "onnx: input declared with another width"),
    "signature": ("serve", "onnx: outputs in another order"),
    "golden": ("serve", "onnx: one weight +1 %"),
    "weights": ("verify", "weights: a weight is NaN"),
    "description": ("build", "manifest: a failed comparison"),
    "derived": ("build", "README.md: edited"),
    "golden derived": ("build", "golden: a bound widened to 1e30"),
    "pictures": ("build", "proof.png: truncated to half"),
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
"""By check: a command, and a mutant that no other check of this command rejects."""


@pytest.fixture(scope="module")
def subjects(flowers: Trained, houses: Trained) -> list[Subject]:
    """The artifacts of a 4-16-3 classifier and a 3-16-1 regressor."""
    return [subject_of(trained.run, trained.artifact) for trained in (flowers, houses)]


@pytest.fixture(scope="module")
def cache() -> checks.Cache:
    """A cache of check results that all tests of this module share."""
    return checks.Cache()


def mutants_of(subjects: list[Subject], *kinds: str) -> Iterator[tuple[str, Subject]]:
    """Yield each mutant of these kinds, made from the first subject to which it applies."""
    for name, mutant in MUTANTS.items():
        for subject in subjects if mutant.kind in kinds else []:
            with contextlib.suppress(DoesNotApplyError):
                yield name, mutant(subject)
                break


def test_healthy_artifacts_are_accepted(subjects: list[Subject], cache: checks.Cache) -> None:
    """No check rejects an unchanged artifact."""
    assert [[], []] == [list(cache.rejections(subject)) for subject in subjects]


def test_no_mutant_survives(subjects: list[Subject], cache: checks.Cache) -> None:
    """Verify rejects all semantic, form and fault mutants; only the check `run` rejects claims.

    A claim with a stale golden.json is also rejected by the check `golden derived`.
    """
    for name, mutant in mutants_of(subjects, "semantic", "form", "fault"):
        assert any(cache.rejections(mutant, checks.VERIFY)), name
    for name, mutant in mutants_of(subjects, "claim"):
        expected = {"run", "golden derived"} if name.endswith(STALE_GOLDEN) else {"run"}
        assert expected == dict(cache.rejections(mutant)).keys(), name
    for name, mutant in mutants_of(subjects, "outside"):
        assert [] == list(cache.rejections(mutant)), name


@pytest.mark.parametrize("check", checks.CHECKS)
def test_every_check_is_needed(
    subjects: list[Subject], cache: checks.Cache, check: str, tmp_path: Path
) -> None:
    """Only this check rejects its mutant, and the real command prints the check's message."""
    command, name = UNIQUE_REJECTIONS[check]
    mutant = MUTANTS[name](subjects[0])
    messages = dict(cache.rejections(mutant, checks.COMMANDS[command]))
    assert {check} == messages.keys()
    if check != "run":
        rejections = checks.run_commands(mutant, tmp_path)
        assert messages[check] in rejections["serve" if command == "serve" else "verify"]


def test_every_flipped_bit_is_rejected(artifact: Path) -> None:
    """Each of 1,000 random bit flips, spread over all files, is rejected by its hash."""
    names, random = sorted({*storage.FILES, manifest.SUMS}), Random(0)  # noqa: S311 # not a key
    for number in range(1000):
        path = artifact / names[number % len(names)]
        content = path.read_bytes()
        byte, bit = random.randrange(len(content)), random.randrange(8)
        flipped = bytes([content[byte] ^ 1 << bit])
        path.write_bytes(content[:byte] + flipped + content[byte + 1 :])
        with pytest.raises(ArtifactError, match="SHA"):
            print(path.name, byte, bit, storage.read_artifact(artifact).digest)
        path.write_bytes(content)
    storage.read_artifact(artifact)


@pytest.mark.parametrize(
    "shape", [Shape("regression", 1, 1, 1), Shape("classification", 64, 100, 10)]
)
def test_correct_networks_pass(shape: Shape) -> None:
    """Correct networks stay within their bounds at input scales 1e-30, 1 and 1e30."""
    comparisons = [
        comparison
        for draw in healthy.draws(shape, seeds=1, scales=(-30, 0, 30))
        for comparison in healthy.sweep(draw, max_rows=256)
    ]
    assert [] == [c for c in comparisons if not c.passed]
    in_range, out_of_range = healthy.count_rows(comparisons)
    assert 9 * 256 == in_range + out_of_range
    assert out_of_range <= 0.05 * 9 * 256
    assert 0 < max(c.max_error_over_bound for c in comparisons) < 1


def test_sweep_reports_wrong_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep reports a runtime whose outputs are wrong by 1 %."""
    run = Session.run

    def run_with_error(session: Session, rows: Float32Array) -> Outputs:
        return {name: v * v.dtype.type(1.01) for name, v in run(session, rows).items()}

    monkeypatch.setattr(Session, "run", run_with_error)
    draw = healthy.Draw(Shape("regression", 1, 1, 1), 0, "matched", 0)
    failed = [c for c in healthy.sweep(draw, max_rows=16) if not c.passed]
    assert ["onnxruntime"] == [comparison.runtime for comparison in failed]
