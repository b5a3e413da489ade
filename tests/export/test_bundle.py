"""`python -m export build`: an artifact is published complete and proved, or not at all."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner

import export
from export import ProofError, bundle, triton, verification
from export.__main__ import main
from export.golden import golden_document
from service.artifact import manifest, storage
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.serving import ROOT
from tests.trained import Trained


@pytest.fixture
def published(flowers: Trained, tmp_path: Path) -> Path:
    """A private copy of the folder artifacts/."""
    return Path(shutil.copytree(flowers.artifact.parent.parent, tmp_path / "artifacts"))


def test_unchanged_run_is_published_once(flowers: Trained, published: Path) -> None:
    """Exporting the same run again publishes nothing, and returns the first artifact."""
    again = bundle.build(flowers.run, published)
    assert (published / "flowers" / "1", None) == (again.path, again.proof)
    assert Predictor(flowers.artifact).digest == again.digest
    assert [1] == storage.list_versions(published / "flowers")


BUILD_BOTH = """
import sys
from export.__main__ import main
for run in sys.argv[1:]:
    main(["build", run], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def elsewhere(flowers: Trained, houses: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, exported again by one process in another folder, later, with other hashes."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345", "TZ": "Asia/Kolkata"}
    subprocess.run(
        [sys.executable, "-c", BUILD_BOTH, str(flowers.run.path), str(houses.run.path)],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
    )
    return folder / "artifacts"


@pytest.mark.e2e
@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_bytes_are_the_same_from_another_process_folder_and_time(
    which: str, elsewhere: Path, request: pytest.FixtureRequest
) -> None:
    """Every file is equal, but for the time in the manifest."""
    made: Trained = request.getfixturevalue(which)
    first, second = (
        storage.read_artifact(path) for path in (made.artifact, elsewhere / which / "1")
    )
    second_manifest = dataclasses.replace(second.manifest, created=first.manifest.created)
    assert first.files[manifest.MANIFEST] == second_manifest.to_json()
    differ = {name for name in storage.FILES if first.files[name] != second.files[name]}
    assert differ <= {manifest.MANIFEST}


def test_changed_run_is_the_next_version(flowers: Trained, published: Path) -> None:
    """Another network under the same name becomes version 2; version 1 keeps its bytes."""
    before = (published / "flowers" / "1" / manifest.SUMS).read_bytes()
    weights = dict(flowers.run.weights) | {"shift": flowers.run.weights["shift"][::-1].copy()}
    other = dataclasses.replace(flowers.run, content=safetensors.numpy.save(weights))
    assert published / "flowers" / "2" == bundle.build(other, published).path
    assert 2 == Predictor(published / "flowers").manifest.version
    assert before == (published / "flowers" / "1" / manifest.SUMS).read_bytes()


def test_other_class_names_are_another_version(flowers: Trained) -> None:
    """The same weights with other class names are not what is published."""
    record = dataclasses.replace(flowers.run.record, classes=("a", "b", "c"))
    artifact = storage.read_artifact(flowers.artifact)
    assert bundle.is_unchanged(artifact, {}, flowers.run)
    assert not bundle.is_unchanged(artifact, {}, dataclasses.replace(flowers.run, record=record))


def build_fails(run: Path, artifacts: Path) -> str:
    """Run the command; return the last line of a failure that leaves no file behind."""
    ended = CliRunner().invoke(main, ["build", str(run), "--artifacts", str(artifacts)])
    assert 1 == ended.exit_code
    assert [] == [path for path in artifacts.rglob("*") if path.is_file()]
    return ended.stderr.splitlines()[-1]


def test_failed_proof_publishes_nothing(
    houses: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that loses one bit."""
    content = bytearray((houses.artifact / manifest.MODEL).read_bytes())
    content[content.index(houses.run.weights["net.linear1.weight"].tobytes())] ^= 1
    monkeypatch.setattr(bundle, "to_onnx", lambda net: bytes(content))
    assert build_fails(houses.run.path, tmp_path / "artifacts").startswith(
        "Error: not published: model.onnx: net.linear1.weight: 1 of 48 values differ"
    )


def test_what_check_rejects_is_not_published(houses: Trained, tmp_path: Path) -> None:
    """A run with a damaged picture."""
    run = Path(shutil.copytree(houses.run.path, tmp_path / "run"))
    (run / manifest.CURVES).write_bytes(b"x")
    line = build_fails(run, tmp_path / "artifacts")
    assert line.startswith("Error: not published: curves.png: ")


def test_golden_rows_are_no_real_rows(flowers: Trained) -> None:
    """golden.json holds float32 rows, and none of the data."""
    rows = json.loads((flowers.artifact / manifest.GOLDEN).read_bytes())["input"]
    assert np.array_equal(rows, np.array(rows, np.float32))
    assert {tuple(row) for row in flowers.run.rows.tolist()}.isdisjoint(map(tuple, rows))


def test_golden_rows_out_of_range_are_left_out(flowers: Trained) -> None:
    """A row whose answer may overflow is no reference; with none left there is no proof."""
    rows = np.array([[0] * 4, [3e38] * 4], np.float32)
    assert [[0, 0, 0, 0]] == golden_document(flowers.run.weights, rows)["input"]
    with pytest.raises(ProofError, match="all out of float32's range"):
        golden_document(flowers.run.weights, rows[1:])


def test_triton_reads_the_folder(flowers: Trained) -> None:
    """config.pbtxt, beside the versions, has the names and shapes of the graph."""
    text = triton.triton_config("flowers", "classification", 4, 3).decode()
    assert 'name: "input" data_type: TYPE_FP32 dims: [-1, 4]' in text
    session = Session((flowers.artifact / manifest.MODEL).read_bytes())
    assert all(f'name: "{name}"' in text for name in session.outputs)
    assert (flowers.artifact.parent / "config.pbtxt").read_text() == text


def test_card_repeats_the_manifest(flowers: Trained) -> None:
    """The model card has the hub's header, the metrics and every feature."""
    text = (flowers.artifact / manifest.CARD).read_text()
    described = Predictor(flowers.artifact).manifest
    assert text.startswith("---\npipeline_tag: tabular-classification\n")
    assert f"{described.metrics['test']['accuracy']:.4g}" in text
    assert all(feature.name in text for feature in described.features)


def test_build_takes_the_newest_run(houses: Trained) -> None:
    """Without RUN, the run finished last is exported, and the line gives its digest."""
    runs, artifacts = houses.run.path.parent.parent, houses.artifact.parent.parent
    ended = CliRunner().invoke(main, ["build", "--runs", str(runs), "--artifacts", str(artifacts)])
    assert 0 == ended.exit_code, ended.output
    assert f"already published as {houses.artifact}; digest " in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: no complete run; train one first (python -m model train)"),
        (["runs/no/1"], "runs/no/1: no such run"),
    ],
)
def test_missing_run(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["build", *arguments])
    assert (2, f"Error: {message}\n") == (ended.exit_code, ended.stderr)


def test_public_names_are_functions() -> None:
    """`from export import build, verify`: loaded on first use, and never the modules."""
    assert (bundle.build, verification.verify) == (export.build, export.verify)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        export.nothing  # noqa: B018 # the access is the test
