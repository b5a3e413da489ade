"""Tests of `python -m export build`: only a complete and proved artifact is published."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
from click.testing import CliRunner

import export
from export import ProofError, bundle, triton, verification
from export.__main__ import main
from export.golden import golden_document, golden_rows
from model.errors import DataError
from model.metrics import baseline_warning
from model.run import load_run
from service.artifact import manifest, storage
from service.artifact.manifest import Feature
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.serving import ROOT
from tests.trained import Trained, train_and_export


@pytest.fixture
def published(flowers: Trained, tmp_path: Path) -> Path:
    """A copy of the folder artifacts/ that a test may change."""
    return Path(shutil.copytree(flowers.artifact.parent.parent, tmp_path / "artifacts"))


def test_unchanged_run_is_published_once(flowers: Trained, published: Path) -> None:
    """Exporting a run again publishes nothing and returns the existing artifact."""
    again = bundle.build(flowers.run, published)
    assert (published / "flowers" / "1", None) == (again.path, again.proof)
    assert Predictor(flowers.artifact).digest == again.digest
    assert [1] == storage.list_versions(published / "flowers")


def test_network_that_does_not_beat_a_baseline(houses: Trained) -> None:
    """Export repeats the warning of the training, also if the run is already published."""
    record = houses.run.record
    warning = baseline_warning(record.task, record.metrics, record.baselines)
    assert warning is not None, "the price of a house is a linear function of its features"
    command = ["build", str(houses.run.path), "--artifacts", str(houses.artifact.parent.parent)]
    result = CliRunner().invoke(main, command)
    assert 0 == result.exit_code, result.output
    assert f"warning: {warning}" == result.stdout.splitlines()[1]
    assert warning in record.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "rows"),
    [(0, 9), (0, 10), (0, 13), (2, 13), (2, 14), (3, 20), (3, 21), (10, 69), (10, 70)],
)
def test_small_tables(tmp_path: Path, classes: int, rows: int) -> None:
    """A small table is either rejected before the fit, or trained, exported and served."""
    columns = {"x": range(rows), "y": [i % classes if classes else i / 3 for i in range(rows)]}
    pl.DataFrame(columns).write_csv(tmp_path / "t.csv")
    fits = rows >= max(10, 7 * classes)
    try:
        trained = train_and_export(tmp_path, tmp_path / "t.csv", "y")
    except DataError as error:
        assert not fits, error
        assert "expected at least" in str(error)
        return
    assert fits
    assert rows == sum(trained.run.record.rows.values())
    assert "t" == Predictor(trained.artifact).manifest.name


def test_manifest_names_the_run(flowers: Trained) -> None:
    """The manifest names the run and the data by hash, with the dropped columns but no path."""
    training = Predictor(flowers.artifact).manifest.training
    digest = hashlib.sha256(flowers.csv.read_bytes()).hexdigest()
    expected = {"run": "flowers/1", "data_sha256": digest, "dropped_columns": ["id"]}
    assert expected == {name: training[name] for name in expected}
    assert str(flowers.csv.parent) not in (flowers.artifact / manifest.MANIFEST).read_text()


def test_repeated_fit_is_unchanged(flowers: Trained, published: Path, tmp_path: Path) -> None:
    """A run with another number but the same result publishes nothing."""
    run = load_run(Path(shutil.copytree(flowers.run.path, tmp_path / "runs" / "flowers" / "2")))
    assert bundle.build(run, published).proof is None


def test_run_of_an_artifact_without_its_origin_is_unchanged(
    flowers: Trained, published: Path, repack: Callable[[Path], None]
) -> None:
    """An artifact that was published before manifests named the run is not published again."""
    path = published / "flowers" / "1"
    described = storage.read_artifact(path).manifest
    training = {
        name: value
        for name, value in described.training.items()
        if name not in ("run", "data_sha256", "dropped_columns")
    }
    older = dataclasses.replace(described, training=training)
    (path / manifest.MANIFEST).write_bytes(older.to_json())
    repack(path)
    assert bundle.build(flowers.run, published).proof is None


@pytest.mark.slow
@pytest.mark.e2e
def test_bytes_are_the_same_from_another_process_folder_and_time(
    flowers: Trained, houses: Trained, tmp_path: Path
) -> None:
    """All files are equal, except for the time of creation in the manifest.

    The proof recomputes derived files and compares them, which tests most of this in less time.
    """
    changes = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345", "TZ": "Asia/Kolkata"}
    for trained in (flowers, houses):
        command = [sys.executable, "-m", "export", "build", str(trained.run.path)]
        subprocess.run(command, cwd=tmp_path, env=os.environ | changes, check=True)
        first = storage.read_artifact(trained.artifact)
        second = storage.read_artifact(tmp_path / "artifacts" / trained.artifact.parent.name / "1")
        created = dataclasses.replace(second.manifest, created=first.manifest.created)
        assert first.files == {**second.files, manifest.MANIFEST: created.to_json()}


def test_changed_run_is_the_next_version(flowers: Trained, published: Path, tmp_path: Path) -> None:
    """A newer run with other weights becomes version 2 and leaves version 1 unchanged.

    The command reports that a feature has another name.
    """
    before = (published / "flowers" / "1" / manifest.SUMS).read_bytes()
    run = Path(shutil.copytree(flowers.run.path, tmp_path / "runs" / "flowers" / "2"))
    weights = dict(flowers.run.weights) | {"shift": flowers.run.weights["shift"][::-1].copy()}
    (run / manifest.WEIGHTS).write_bytes(safetensors.numpy.save(weights))
    record = json.loads((run / "run.json").read_bytes())
    record["features"][0]["name"] = "petal"
    (run / "run.json").write_text(json.dumps(record))
    command = ["build", "--runs", str(tmp_path / "runs"), "--artifacts", str(published)]
    notice = [
        "the schema of version 2 differs from that of version 1:",
        "  features: expected 'petal, length', found 'petal'",
        "running servers refuse version 2, unless started with --allow-schema-change",
    ]
    for line, expected in (("published ", notice), ("already published as ", [])):
        result = CliRunner().invoke(main, command)
        assert 0 == result.exit_code, result.output
        _, *lines, last = result.stdout.splitlines()
        assert last.startswith(f"{line}{published / 'flowers' / '2'}")
        assert expected == [text for text in lines if not text.startswith("warning: ")][-3:]
    assert 2 == Predictor(published / "flowers").manifest.version
    assert before == (published / "flowers" / "1" / manifest.SUMS).read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (manifest.MODEL, "model.onnx: net.linear1.weight: 1 of 48 values differ from the run's"),
        (manifest.CURVES, "curves.png: "),
    ],
)
def test_failed_build_publishes_nothing(
    houses: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    """A flipped bit of a weight or a damaged picture gives a one-line error and no files."""
    artifacts = tmp_path / "artifacts"
    run = Path(shutil.copytree(houses.run.path, tmp_path / "run"))
    content = bytearray((houses.artifact / manifest.MODEL).read_bytes())
    if name == manifest.MODEL:
        content[content.index(houses.run.weights["net.linear1.weight"].tobytes())] ^= 1
    else:
        (run / manifest.CURVES).write_bytes(b"x")
    monkeypatch.setattr(bundle, "to_onnx", lambda net: bytes(content))
    result = CliRunner().invoke(main, ["build", str(run), "--artifacts", str(artifacts)])
    assert 1 == result.exit_code
    assert result.stderr.splitlines()[-1].startswith(f"Error: not published: {expected}")
    assert [] == [path for path in artifacts.rglob("*") if path.is_file()]


def test_golden_rows_are_not_data_rows(flowers: Trained) -> None:
    """The rows of golden.json are float32; no golden row of this artifact is a row of its run."""
    rows = json.loads((flowers.artifact / manifest.GOLDEN).read_bytes())["input"]
    assert np.array_equal(rows, np.array(rows, np.float32))
    assert {tuple(row) for row in flowers.run.rows.tolist()}.isdisjoint(map(tuple, rows))


def test_golden_rows_depend_on_statistics_only() -> None:
    """With one feature, rows equal its minimum and maximum; no other value of the data is used."""
    statistics = {"min": 1.5, "median": 4.0, "max": 9.25}
    feature = Feature(name="a", kind="float", mean=5.0, std=2.0, **statistics)
    rows = golden_rows([feature])[:, 0].tolist()
    assert [4.0, 1.5, 9.25, 0.0] == rows[:4]
    assert all(1.5 < value < 9.25 for value in rows[4:])


def test_golden_rows_out_of_range_are_left_out(flowers: Trained) -> None:
    """Rows that may overflow are left out of golden.json; if none remain, it is an error."""
    rows = np.array([[0] * 4, [3e38] * 4], np.float32)
    assert [[0, 0, 0, 0]] == golden_document(flowers.run.weights, rows)["input"]
    with pytest.raises(ProofError, match="all out of float32's range"):
        golden_document(flowers.run.weights, rows[1:])


def test_triton_configuration(flowers: Trained) -> None:
    """The published config.pbtxt has the names and shapes of the graph."""
    text = triton.triton_config("flowers", "classification", 4, 3).decode()
    assert 'name: "input" data_type: TYPE_FP32 dims: [-1, 4]' in text
    session = Session((flowers.artifact / manifest.MODEL).read_bytes())
    assert all(f'name: "{name}"' in text for name in session.outputs)
    assert (flowers.artifact.parent / "config.pbtxt").read_text() == text


def test_card_repeats_the_manifest(flowers: Trained) -> None:
    """The model card has the Hugging Face header, the metrics and every feature."""
    text = (flowers.artifact / manifest.CARD).read_text()
    described = Predictor(flowers.artifact).manifest
    assert text.startswith("---\npipeline_tag: tabular-classification\n")
    assert f"{described.metrics['test']['accuracy']:.4g}" in text
    assert all(feature.name in text for feature in described.features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "x"], "x: no complete run; train one first (python -m model train)"),
        (["x/no/1"], "x/no/1: no such run"),
    ],
)
def test_missing_run(arguments: list[str], message: str) -> None:
    """A missing run gives a one-line error and exit code 2."""
    result = CliRunner().invoke(main, ["build", *arguments])
    assert (2, f"Error: {message}\n") == (result.exit_code, result.stderr)


def test_public_names_are_functions() -> None:
    """The package's `build` and `verify` are functions, and an unknown name is an error."""
    assert (bundle.build, verification.verify) == (export.build, export.verify)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        export.nothing  # noqa: B018 # the test needs the access
