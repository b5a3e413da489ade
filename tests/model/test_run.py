"""model.checkpoint: a run on disk."""

import dataclasses
import json
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
    MAX_KEPT_ROWS,
    Feature,
    RunRecord,
    find_run,
    load_run,
    net_from_weights,
    newest_run,
    save_run,
)
from model.table.dataset import ClassValue

CLASSES: tuple[ClassValue, ...] = ("a, €", 1, 1.5, True)
"""One of each JSON type that a class can have."""


def record(classes: tuple[ClassValue, ...]) -> RunRecord:
    """Make a record of two features, one with a name to be quoted."""
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
    )


def network(classes: tuple[ClassValue, ...]) -> ScaledNet:
    """Make an untrained network to go with record()."""
    torch.manual_seed(0)
    shift, scale = torch.tensor([2000.1, 0.1]), torch.tensor([1 / 3, 0.0])
    if classes:
        return ScaledClassifier(TwoLayerNet(2, 5, len(classes)), shift, scale)
    return ScaledRegressor(
        TwoLayerNet(2, 5, 1), shift, scale, torch.tensor([1e5]), torch.tensor([-0.1])
    )


ROWS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run at runs/houses/1."""
    path = tmp_path / "runs" / "houses" / "1"
    path.mkdir(parents=True)
    save_run(path, record(CLASSES), network(CLASSES), ROWS)
    return path


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_round_trip(tmp_path: Path, classes: tuple[ClassValue, ...]) -> None:
    """Every figure, name and bit comes back: the record, the tensors, the kept rows, and the answers."""
    stated, net = record(classes), network(classes)
    save_run(tmp_path, stated, net, ROWS)
    run = load_run(tmp_path)
    assert stated == run.record
    assert [type(value) for value in classes] == [type(value) for value in run.record.classes]
    assert set(net.state_dict()) == set(run.weights)
    for name, tensor in net.state_dict().items():
        assert tensor.numpy().tobytes() == run.weights[name].tobytes()
    assert (tmp_path / "weights.safetensors").read_bytes() == run.content
    assert np.array_equal(ROWS[:MAX_KEPT_ROWS], run.rows)
    again = net_from_weights(run.weights)
    assert type(net) is type(again)
    assert not again.training
    for expected, found in zip(
        net(torch.from_numpy(ROWS)), again(torch.from_numpy(ROWS)), strict=True
    ):
        assert torch.equal(expected, found)


@pytest.mark.parametrize(("classes", "expected"), [((), 1), (CLASSES, 4)])
def test_out_features(classes: tuple[ClassValue, ...], expected: int) -> None:
    """The last layer is as wide as there are classes, or targets."""
    assert expected == record(classes).out_features


def test_saving_is_deterministic_and_holds_no_pickle(saved: Path, tmp_path: Path) -> None:
    """The same run gives the same bytes: JSON of one kind, and tensors behind a JSON header."""
    (tmp_path / "again").mkdir()
    save_run(tmp_path / "again", record(CLASSES), network(CLASSES), ROWS)
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert {"run.json", "weights.safetensors", "rows.safetensors"} == {
        path.name for path in saved.iterdir()
    }
    for name in ("weights.safetensors", "rows.safetensors"):
        content = (saved / name).read_bytes()
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert (
        dataclasses.asdict(record(CLASSES)).keys()
        == json.loads((saved / "run.json").read_bytes()).keys()
    )


def edited(**changes: Any) -> Callable[[Path], object]:
    """Return a function that changes members of a run's run.json; None removes one."""

    def edit(path: Path) -> None:
        document = json.loads((path / "run.json").read_bytes()) | changes
        kept = {key: value for key, value in document.items() if value is not None}
        (path / "run.json").write_text(json.dumps(kept))

    return edit


def removed(name: str) -> Callable[[Path], object]:
    """Return a function that removes a file of a run."""
    return lambda path: (path / name).unlink()


def cut(name: str) -> Callable[[Path], object]:
    """Return a function that keeps the first half of a file of a run."""
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (removed("run.json"), ": not a complete run, run.json is missing"),
        (removed("weights.safetensors"), ": not a complete run, weights.safetensors is missing"),
        (removed("rows.safetensors"), ": not a complete run, rows.safetensors is missing"),
        (cut("run.json"), ": not a readable run: "),
        (cut("weights.safetensors"), ": not a readable run: "),
        (cut("rows.safetensors"), ": not a readable run: "),
        (lambda path: (path / "run.json").write_text("[]"), ": not a readable run: "),
        (lambda path: (path / "run.json").write_bytes(b"\xff"), ": not a readable run: "),
        (edited(format_version=2), "/run.json: expected format_version 1, found 2"),
        (edited(format_version=None), ": not a readable run: 'format_version'"),
        (edited(features=None), ": not a readable run: 'features'"),
        (edited(history=[1]), ": not a readable run: "),
        (edited(surprise=1), ": not a readable run: "),
        (
            edited(config={"epochs": 0}),
            ": not a readable run: epochs: expected 1 to 2**31 - 1, found 0",
        ),
    ],
)
def test_bad_run(saved: Path, damage: Callable[[Path], object], expected: str) -> None:
    """What is missing or cannot be read is said in one line, never with a traceback."""
    damage(saved)
    with pytest.raises(DataError, match=f"^{re.escape(str(saved) + expected)}.*$"):
        load_run(saved)


def test_newest_run_is_the_one_finished_last(saved: Path) -> None:
    """Over all names; drafts and other folders do not count."""
    root = saved.parent.parent
    for index, name in enumerate(
        ("houses/2", "houses/10", "cars/3", "houses/.tmp-x", "houses/notes")
    ):
        (root / name).mkdir(parents=True)
        (root / name / "run.json").touch()
        os.utime(root / name / "run.json", (4e9 + index, 4e9 + index))
    assert root / "cars" / "3" == newest_run(root)
    assert root / "houses" / "10" == find_run(str(root / "houses"))
    assert root / "houses" / "2" == find_run(str(root / "houses" / "2"))


def test_no_run(tmp_path: Path) -> None:
    """Where there is none, the command that makes one is named."""
    expected = f"{tmp_path}: no complete run; train one first (python -m model train)"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        newest_run(tmp_path)


def test_unknown_run(saved: Path, tmp_path: Path) -> None:
    """A near miss is suggested; a folder that is no run is said to be none."""
    wrong = saved.parent.parent / "house"
    expected = f"{wrong}: no such run (did you mean '{saved.parent}'?)"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        find_run(str(wrong))
    with pytest.raises(
        DataError, match=f"^{re.escape(str(tmp_path))}: not a run, run.json is missing$"
    ):
        find_run(str(tmp_path))
