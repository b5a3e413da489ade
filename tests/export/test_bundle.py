"""export.bundle and `python -m export`: an artifact is published whole and proved, or not at all."""

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

from export import ProofError, bundle, triton
from export.__main__ import main
from export.golden import golden_document
from export.proof.bound import reference
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
    """Exporting the same run again publishes nothing, and says where it stands."""
    again = bundle.build(flowers.run, published)
    assert (published / "flowers" / "1", False) == (again.path, again.new)
    assert Predictor(flowers.artifact).digest == again.digest
    assert [1] == storage.list_versions(published / "flowers")


@pytest.mark.e2e
@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_bytes_are_the_same_from_another_process_folder_and_time(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A second export, elsewhere, later, with other string hashes: equal but for the time it states."""
    made: Trained = request.getfixturevalue(which)
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(
        [sys.executable, "-m", "export", "build", str(made.run.path)],
        cwd=tmp_path / "elsewhere",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "12345",
            "TZ": "Asia/Kolkata",
        },
        check=True,
    )
    first, second = (
        storage.read_artifact(storage.find_version(parent / which))
        for parent in (made.artifact.parent.parent, tmp_path / "elsewhere" / "artifacts")
    )
    stated = dataclasses.replace(second.manifest, created=first.manifest.created)
    assert first.files[manifest.MANIFEST] == stated.to_json()
    differ = {name for name in storage.FILES if first.files[name] != second.files[name]}
    assert differ <= {manifest.MANIFEST}


def test_changed_run_is_the_next_version(
    flowers: Trained, houses: Trained, published: Path
) -> None:
    """Another network under the same name becomes version 2; version 1 keeps its bytes."""
    before = (published / "flowers" / "1" / manifest.SUMS).read_bytes()
    weights = dict(flowers.run.weights) | {"shift": flowers.run.weights["shift"][::-1].copy()}
    other = dataclasses.replace(flowers.run, content=safetensors.numpy.save(weights))
    made = bundle.build(other, published)
    assert (published / "flowers" / "2", True) == (made.path, made.new)
    assert 2 == Predictor(published / "flowers").manifest.version
    assert before == (published / "flowers" / "1" / manifest.SUMS).read_bytes()


def test_other_class_names_are_another_version(flowers: Trained, published: Path) -> None:
    """The same weights under other names are not what stands published."""
    record = dataclasses.replace(flowers.run.record, classes=("a", "b", "c"))
    made = bundle.build(dataclasses.replace(flowers.run, record=record), published)
    assert (2, ("a", "b", "c")) == (
        Predictor(made.path).manifest.version,
        Predictor(made.path).manifest.classes,
    )


def test_failed_proof_publishes_nothing(
    houses: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that loses one bit ends in one line and exit code 1, and leaves no file behind."""

    def wrong(net: object) -> bytes:
        content = bytearray((houses.artifact / manifest.MODEL).read_bytes())
        place = content.index(houses.run.weights["net.linear1.weight"].tobytes())
        content[place] ^= 1
        return bytes(content)

    monkeypatch.setattr(bundle, "to_onnx", wrong)
    ended = CliRunner().invoke(
        main, ["build", str(houses.run.path), "--artifacts", str(tmp_path / "artifacts")]
    )
    assert 1 == ended.exit_code
    assert (
        "Error: not published: model.onnx: net.linear1.weight: 1 of 48 values differ"
        in ended.stderr
    )
    assert [] == [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_what_check_refuses_is_not_published(houses: Trained, tmp_path: Path) -> None:
    """A run with a damaged picture ends in one line and exit code 1, and leaves no file behind."""
    run = Path(shutil.copytree(houses.run.path, tmp_path / "run"))
    (run / manifest.CURVES).write_bytes(b"x")
    ended = CliRunner().invoke(
        main, ["build", str(run), "--artifacts", str(tmp_path / "artifacts")]
    )
    assert 1 == ended.exit_code
    assert ended.stderr.splitlines()[-1].startswith(
        "Error: not published: curves.png: no whole PNG"
    )
    assert [] == [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_golden_rows_reproduce_and_are_nobody_s(flowers: Trained) -> None:
    """golden.json holds float32 rows that round-trip, their references and bounds, and no row of the data."""
    golden = json.loads((flowers.artifact / manifest.GOLDEN).read_bytes())
    rows = np.array(golden["input"])
    assert np.array_equal(rows, rows.astype(np.float32))
    expected = reference(flowers.run.weights, rows.astype(np.float32))
    assert expected.values["logits"].tolist() == golden["outputs"]["logits"]["reference"]
    assert expected.bounds["logits"].tolist() == golden["outputs"]["logits"]["bound"]
    real = {tuple(row) for row in flowers.run.rows.tolist()}
    assert real.isdisjoint(tuple(row) for row in rows.tolist())


def test_golden_rows_out_of_range_are_left_out(flowers: Trained) -> None:
    """A row whose answer may overflow is no reference; with none left there is no proof."""
    rows = np.array([[0] * 4, [3e38] * 4], np.float32)
    assert [[0, 0, 0, 0]] == golden_document(flowers.run.weights, rows)["input"]
    with pytest.raises(ProofError, match="found none"):
        golden_document(flowers.run.weights, rows[1:])


def test_triton_reads_the_folder(flowers: Trained) -> None:
    """config.pbtxt stands beside the versions, with the names and shapes of the graph."""
    text = triton.triton_config("flowers", "classification", 4, 3).decode()
    assert 'name: "input" data_type: TYPE_FP32 dims: [-1, 4]' in text
    session = Session((flowers.artifact / manifest.MODEL).read_bytes())
    assert all(f'name: "{name}"' in text for name in session.outputs)
    assert (flowers.artifact.parent / "config.pbtxt").read_text() == text


def test_card_says_what_the_manifest_says(flowers: Trained) -> None:
    """The model card carries the hub's header, the metrics and every feature."""
    text = (flowers.artifact / manifest.CARD).read_text()
    stated = Predictor(flowers.artifact).manifest
    assert text.startswith("---\npipeline_tag: tabular-classification\n")
    assert f"{stated.metrics['test']['accuracy']:.4g}" in text
    assert all(feature.name in text for feature in stated.features)


def test_build_takes_the_newest_run(houses: Trained, tmp_path: Path) -> None:
    """Without a choice, the run finished last is published, and the line gives its digest."""
    runs = houses.run.path.parent.parent
    ended = CliRunner().invoke(main, ["build", "--runs", str(runs), "--artifacts", str(tmp_path)])
    assert 0 == ended.exit_code, ended.output
    assert f"published {tmp_path / 'houses' / '1'}" in ended.stdout
    assert Predictor(tmp_path / "houses").digest in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "runs: no complete run; train one first (python -m model train)"),
        (["build", "runs/no/1"], "runs/no/1: no such run"),
        (["build", "empty"], "empty: not a run, run.json is missing"),
        (["build", "broken"], "broken: not a complete run, weights.safetensors is missing"),
    ],
)
def test_bad_runs(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is not there or not whole is one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{}")
    ended = CliRunner().invoke(main, arguments)
    assert (2, f"Error: {message}\n") == (ended.exit_code, ended.stderr)


def test_artifacts_that_cannot_be_written(houses: Trained, tmp_path: Path) -> None:
    """A file where the folder should be is one line and exit code 2."""
    (tmp_path / "artifacts").write_text("")
    ended = CliRunner().invoke(
        main, ["build", str(houses.run.path), "--artifacts", str(tmp_path / "artifacts" / "x")]
    )
    assert 2 == ended.exit_code
    assert "Not a directory" in ended.stderr


def test_sums_cover_the_artifact(houses: Trained) -> None:
    """`sha256sum -c` in the folder, as the README says."""
    subprocess.run(["sha256sum", "--quiet", "-c", manifest.SUMS], cwd=houses.artifact, check=True)


def test_versions_of_the_format() -> None:
    """The versions of the format are those of DESIGN.md."""
    assert (17, 8) == (manifest.OPSET, manifest.IR_VERSION)
