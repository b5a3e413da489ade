"""Tests of model.run: saving, loading and finding runs, and errors of damaged runs."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.config import TrainConfig
from model.errors import DataError
from model.fit.loop import Epoch
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.run import (
    MAX_SAVED_ROWS,
    Feature,
    RunRecord,
    find_run,
    load_run,
    net_from_weights,
    newest_run,
    save_run,
)
from model.table.dataset import ClassValue, Source

CLASSES: tuple[ClassValue, ...] = ("a, €", 1, 1.5, True)
"""Classes of each JSON type."""


def record(classes: tuple[ClassValue, ...]) -> RunRecord:
    """Make a record with extreme numbers and with names that need quotes in CSV."""
    return RunRecord(
        name="houses",
        created="2026-01-02T03:04:05+00:00",
        task="classification" if classes else "regression",
        features=tuple(
            Feature(name=name, kind="float", min=0.1, max=1e300, mean=1 / 3, median=5e-324, std=2.5)
            for name in ("size, m²", "age")
        ),
        targets=("price €",),
        classes=classes,
        config=TrainConfig(epochs=2, seed=2**32 - 1),
        device="cpu",
        threads=1,
        rows={"train": 64, "validation": 16, "test": 20},
        best_epoch=1,
        history=(Epoch(1, 0.1, 1 / 3), Epoch(2, 1e-300, 0.5)),
        metrics={part: {"accuracy": 2 / 3} for part in ("train", "validation", "test")},
        baselines={"linear": {"accuracy": 0.1}},
        notes=("target 'price €' holds ...",),
        versions={"torch": torch.__version__},
        source=Source(
            path="/data/häuser.csv", size_bytes=7, sha256="0" * 64, dropped_columns=("id, 2",)
        ),
    )


def network(classes: tuple[ClassValue, ...]) -> ScaledNet:
    """Make an untrained network for record()."""
    torch.manual_seed(0)
    shift, scale = torch.tensor([2000.1, 0.1]), torch.tensor([1 / 3, 0.0])
    if classes:
        return ScaledClassifier(TwoLayerNet(2, 5, len(classes)), shift, scale)
    return ScaledRegressor(
        TwoLayerNet(2, 5, 1), shift, scale, torch.tensor([1e5]), torch.tensor([-0.1])
    )


ROWS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """The folder runs/houses/1 with a saved run."""
    path = tmp_path / "runs" / "houses" / "1"
    path.mkdir(parents=True)
    save_run(path, record(CLASSES), network(CLASSES), ROWS)
    return path


@pytest.mark.parametrize(("classes", "out_features"), [((), 1), (CLASSES, 4)])
def test_round_trip(tmp_path: Path, classes: tuple[ClassValue, ...], out_features: int) -> None:
    """A loaded run has the saved record, tensors and rows; its network gives the same outputs."""
    run_record, net = record(classes), network(classes)
    save_run(tmp_path, run_record, net, ROWS)
    run = load_run(tmp_path)
    assert run_record == run.record
    assert out_features == run.record.out_features
    assert [type(value) for value in classes] == [type(value) for value in run.record.classes]
    assert set(net.state_dict()) == set(run.weights)
    for name, tensor in net.state_dict().items():
        assert tensor.numpy().tobytes() == run.weights[name].tobytes()
    assert (tmp_path / "weights.safetensors").read_bytes() == run.content
    assert np.array_equal(ROWS[:MAX_SAVED_ROWS], run.rows)
    rebuilt, x = net_from_weights(run.weights), torch.from_numpy(ROWS)
    assert type(net) is type(rebuilt)
    assert not rebuilt.training
    for expected, actual in zip(net(x), rebuilt(x), strict=True):
        assert torch.equal(expected, actual)


def test_files_are_deterministic_and_hold_no_pickle(run_path: Path, tmp_path: Path) -> None:
    """Saving a run twice gives equal files; each holds JSON, or tensors after a JSON header."""
    save_run(tmp_path, record(CLASSES), network(CLASSES), ROWS)
    names = {"run.json", "weights.safetensors", "rows.safetensors"}
    assert names == {path.name for path in run_path.iterdir()}
    for path in run_path.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    for name in names - {"run.json"}:
        content = (run_path / name).read_bytes()
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads((run_path / "run.json").read_bytes())
    assert dataclasses.asdict(record(CLASSES)).keys() == document.keys()


def test_older_run(run_path: Path) -> None:
    """A run that was written before runs named their data is read."""
    edit_record(source=None)(run_path)
    assert dataclasses.replace(record(CLASSES), source=None) == load_run(run_path).record


# Damaged runs

Damage = Callable[[Path], object]


def edit_record(**changes: Any) -> Damage:
    """Return a function that changes members of run.json; the value None removes a member."""

    def edit(path: Path) -> None:
        document = json.loads((path / "run.json").read_bytes()) | changes
        members = {key: value for key, value in document.items() if value is not None}
        (path / "run.json").write_text(json.dumps(members))

    return edit


def feature(**changes: float) -> list[dict[str, Any]]:
    """Return the features of record(), with changes to the second one."""
    features = [dataclasses.asdict(item) for item in record(CLASSES).features]
    return [features[0], features[1] | changes]


def truncate(name: str) -> Damage:
    """Return a function that removes the second half of a file of a run."""
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


FILES = ("run.json", "weights.safetensors", "rows.safetensors")
UNREADABLE = ": not a readable run: "
RECORD = UNREADABLE + "run.json: "
STATISTICS = RECORD + "feature 'age': expected finite statistics with min <= max"
ONE_NETWORK = UNREADABLE + "weights, rows and run.json do not match"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        *(
            (lambda path, name=name: (path / name).unlink(), f": not a complete run, {name} is ")
            for name in FILES
        ),
        *((truncate(name), UNREADABLE) for name in FILES),
        (lambda path: (path / "run.json").write_bytes(b"\xff"), UNREADABLE),
        (edit_record(format_version=2), RECORD + "expected format_version 1, found 2"),
        (edit_record(format_version=None), UNREADABLE + "'format_version'"),
        (edit_record(history=[1]), UNREADABLE),
        (edit_record(surprise=1), UNREADABLE),
        (edit_record(source={"path": "t.csv"}), UNREADABLE),
        (edit_record(config={"epochs": 0}), UNREADABLE + "epochs: expected 1 to 2**31 - 1, "),
        (edit_record(features=[]), ONE_NETWORK),
        (edit_record(task="regression"), ONE_NETWORK),
        (edit_record(features=feature(mean=math.nan)), STATISTICS),
        (edit_record(features=feature(min=3.0, max=2.0)), STATISTICS),
        (
            edit_record(metrics={"train": {}, "validation": {}}),
            RECORD + "metrics: expected those of the test rows, found none",
        ),
        (edit_record(name="../x"), RECORD + "expected a name of [a-z0-9_-], found '../x'"),
    ],
)
def test_damaged_run(run_path: Path, damage: Damage, expected: str) -> None:
    """Any damage gives a one-line error that begins with the path of the run."""
    damage(run_path)
    with pytest.raises(DataError, match=f"^{re.escape(str(run_path) + expected)}.*$"):
        load_run(run_path)


# Finding a run


def test_newest_run(run_path: Path) -> None:
    """The newest run is found among all names or in one; drafts and other folders are ignored."""
    root = run_path.parent.parent
    names = ("houses/2", "houses/10", "cars/3", "houses/.tmp-x", "houses/notes")
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / "run.json").touch()
        os.utime(root / name / "run.json", (4e9 + index, 4e9 + index))
    assert root / "cars" / "3" == newest_run(root)
    assert root / "houses" / "10" == find_run(str(root / "houses"))
    assert root / "houses" / "2" == find_run(str(root / "houses" / "2"))


def test_no_run(run_path: Path, tmp_path: Path) -> None:
    """The error names the command to run, a similar path, or the missing file."""
    empty, wrong = tmp_path / "empty", run_path.parent.parent / "house"
    for find, folder, expected in (
        (newest_run, empty, "no complete run; train one first (python -m model train)"),
        (lambda p: find_run(str(p)), wrong, f"no such run (did you mean '{run_path.parent}'?)"),
        (lambda p: find_run(str(p)), tmp_path, "not a run, run.json is missing"),
    ):
        with pytest.raises(DataError, match=f"^{re.escape(f'{folder}: {expected}')}$"):
            find(folder)
