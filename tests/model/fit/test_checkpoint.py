"""Tests of model.fit.checkpoint: a resumed fit gives the same bits as an uninterrupted one."""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from model.config import TrainConfig
from model.errors import DataError
from model.fit.checkpoint import (
    CheckpointWriter,
    TrainRequest,
    checksum,
    load_checkpoint,
    newest_checkpoint,
)
from model.fit.loop import Epoch, FitState, run_epochs
from model.net import TwoLayerNet
from tests.model.tables import CLASSES, make_table

CONFIG = TrainConfig(hidden_features=6, epochs=12, batch_size=8, learning_rate=0.1)
REQUEST = TrainRequest(
    source="/data/t.csv", targets=("y",), drop=("a, b", "c"), task="regression", name="T"
)
BOTH_TASKS = pytest.mark.parametrize("classes", [(), CLASSES], ids=["regression", "classification"])


def new_state(config: TrainConfig = CONFIG, classes: tuple[str, ...] = ()) -> FitState:
    """Return the state of a new fit."""
    torch.manual_seed(0)
    return FitState(TwoLayerNet(4, 6, len(classes) or 1), config, classification=bool(classes))


def run_fit(
    state: FitState, classes: tuple[str, ...], before_chunk: Callable[[], object] = lambda: None
) -> None:
    """Run all epochs on 40 noisy rows, few enough that an epoch before the last is the best."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(60, 4, generator=generator), torch.randn(60, 1, generator=generator)
    y = x[:, :1] - x[:, 1:2] + noise
    y = (y[:, 0] > 0).long() if classes else y
    for _ in run_epochs(state, (x[:40], y[:40]), (x[40:], y[40:]), None, before_chunk):
        pass


def started_state() -> FitState:
    """Return the state of a fit after two epochs."""
    state = new_state()
    state.history = [Epoch(1, 0.1, 1 / 3), Epoch(2, 1e-300, 0.5)]
    return state


def make_writer(
    runs: Path, config: TrainConfig = CONFIG, request: TrainRequest = REQUEST, name: str = "t"
) -> CheckpointWriter:
    """Return a writer that saves a checkpoint every epoch, for a fit on three threads."""
    table = dataclasses.replace(make_table(), name=name)
    return CheckpointWriter(runs, table, request, config, 3, 0.0)


def check_equal(expected: FitState, actual: FitState) -> None:
    """Assert that two states have the same history and bitwise equal tensors."""
    assert expected.history == actual.history
    for name, tensor in expected.tensors().items():
        assert torch.equal(tensor, actual.tensors()[name]), name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Path of the checkpoint of a fit after two epochs."""
    writer = make_writer(tmp_path)
    writer.save(started_state())
    return writer.path


# Restored state


def test_round_trip(tmp_path: Path) -> None:
    """A loaded checkpoint has the saved settings, losses and tensors."""
    config = dataclasses.replace(
        CONFIG, class_weights=(0.1, 1 / 3), schedule="cosine", learning_rate=1 / 3
    )
    state, writer = new_state(config, CLASSES), make_writer(tmp_path, config)
    run_fit(state, CLASSES)
    writer.save(state)
    checkpoint = load_checkpoint(writer.path)
    assert (writer.path, REQUEST, config) == (
        checkpoint.path,
        checkpoint.request,
        checkpoint.config,
    )
    assert (3, 1) == (checkpoint.threads, checkpoint.processes)
    restored = new_state(config, CLASSES)
    checkpoint.restore(restored)
    check_equal(state, restored)


VARIANTS: dict[str, dict[str, Any]] = {
    "cosine": {"schedule": "cosine"},
    "patience": {"patience": 5, "epochs": 40},
    "one batch": {"batch_size": 100, "epochs": 24},
    "decay and sum": {"weight_decay": 0.3, "reduction": "sum"},
}


@BOTH_TASKS
@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_fit_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, classes: tuple[str, ...]
) -> None:
    """A fit resumed from any checkpoint, also within an epoch, ends with the same bits."""
    config = dataclasses.replace(CONFIG, **VARIANTS[variant])
    monkeypatch.setattr("model.fit.loop.MAX_SLICE_VALUES", 10 * 6)  # two validation batches
    whole = new_state(config, classes)
    run_fit(whole, classes)
    assert whole.best_epoch is not None
    assert 1 < whole.best_epoch.number < len(whole.history), "expected a middle epoch to be best"

    # Small chunks and saved checkpoints must not change the fit; checkpoints are resumed.
    monkeypatch.setattr("model.fit.batches.MAX_CHUNK_VALUES", 2 * 8 * 4)
    writer, paths = make_writer(tmp_path, config), list[Path]()
    state = new_state(config, classes)

    def save() -> None:
        writer.save(state)
        if writer.path.exists():
            paths.append(writer.path.rename(tmp_path / f"{len(paths)}.safetensors"))

    run_fit(state, classes, save)
    check_equal(whole, state)
    chunks = 1 if config.batch_size >= 40 else 3  # of two batches, but the last of one
    assert len(paths) == len(whole.history) * (chunks + 1) - 1
    for path in paths[::3]:  # all positions within an epoch
        checkpoint = load_checkpoint(path)
        resumed = new_state(checkpoint.config, classes)
        checkpoint.restore(resumed)
        run_fit(resumed, classes)
        check_equal(whole, resumed)
        for expected, actual in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
            assert torch.equal(expected, actual)


def test_file_is_written_only_if_due(tmp_path: Path) -> None:
    """A fit without progress is not saved, nor a state that the file holds already."""
    writer, state = make_writer(tmp_path), new_state()
    writer.save_if_due(state)
    assert not writer.path.exists()
    writer.save_if_due(started_state())
    writer.path.unlink()
    writer.save_if_due(started_state())
    assert not writer.path.exists()
    writer.interval_seconds = 1e9
    state.history = [*started_state().history, Epoch(3, 0.1, 0.1)]
    writer.save_if_due(state)
    assert not writer.path.exists()
    writer.save(state)
    assert writer.path.exists()


# File names


def test_each_configuration_has_its_file(tmp_path: Path) -> None:
    """The file name depends on the configuration and the request, and on nothing else."""
    seeded = make_writer(tmp_path, dataclasses.replace(CONFIG, seed=1))
    dropped = make_writer(tmp_path, request=dataclasses.replace(REQUEST, drop=("a",)))
    paths = {make_writer(tmp_path).path, seeded.path, dropped.path}
    assert 3 == len(paths)
    assert make_writer(tmp_path).path == make_writer(tmp_path, dataclasses.replace(CONFIG)).path
    for path in paths:
        assert tmp_path / "t" == path.parent
        assert re.fullmatch(r"resume-[0-9a-f]{8}\.safetensors", path.name)


def test_newest_checkpoint(tmp_path: Path) -> None:
    """The newest checkpoint is found for one name or all names; runs and drafts are ignored."""
    for index, (name, seed) in enumerate((("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2))):
        writer = make_writer(tmp_path, dataclasses.replace(CONFIG, seed=seed), name=name)
        writer.save(started_state())
        os.utime(writer.path, (4e9 - index, 4e9 - index))
    (tmp_path / "a" / "1").mkdir()
    (tmp_path / "a" / ".tmp-x").mkdir()
    newest_checkpoint(tmp_path, "a").path.unlink()
    assert ("b", 0) == (
        newest_checkpoint(tmp_path).path.parent.name,
        newest_checkpoint(tmp_path).config.seed,
    )
    assert 1 == newest_checkpoint(tmp_path, "a").config.seed


# Rejected files


CHANGES: dict[str, dict[str, Any]] = {
    "x": {"x": make_table().x + np.float32(1e-6)},
    "y": {"y": make_table().y * 2},
    "rows": {"x": make_table().x[:-1], "y": make_table().y[:-1]},
    "features": {"features": ("year", "constant", "days", "other")},
    "targets": {"targets": ("z",)},
    "kinds": {"kinds": ("float",) * 4},
    "task": {"task": "classification", "classes": CLASSES, "y": make_table(CLASSES).y},
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_data(file: Path, change: str) -> None:
    """Another name of the table is accepted; other values, rows, columns or types are not."""
    checkpoint = load_checkpoint(file)
    checkpoint.check_resumable(dataclasses.replace(make_table(), name="other", notes=()))
    expected = f"{file}: the data have changed; start a new fit"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        checkpoint.check_resumable(dataclasses.replace(make_table(), **CHANGES[change]))


def test_other_number_of_processes(file: Path) -> None:
    """Resuming needs the same number of processes, because it changes the rounding."""
    checkpoint = dataclasses.replace(load_checkpoint(file), processes=2)
    expected = f"{file}: expected 2 processes, found 1"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        checkpoint.check_resumable(make_table())


def edit(
    change: Callable[[dict[str, Any]], object], tensors: dict[str, torch.Tensor] | None = None
) -> Callable[[Path], object]:
    """Return a function that edits the JSON in a file's header, and may replace the tensors."""

    def apply(path: Path) -> None:
        with safe_open(path, framework="pt") as checkpoint:
            document = json.loads(checkpoint.metadata()["fit"])
        change(document)
        text, content = json.dumps(document), tensors or safetensors.torch.load_file(path)
        header = {"fit": text, "sha256": checksum(text, content)}
        path.write_bytes(safetensors.torch.save(content, header))

    return apply


def overwrite(content: bytes) -> Callable[[Path], object]:
    """Return a function that overwrites a file with this content."""
    return lambda path: path.write_bytes(content)


def flip_last_bit(path: Path) -> None:
    """Flip the last bit of a file, which belongs to a tensor."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


ONES = {"x": torch.ones(1)}
UNREADABLE = "not a readable checkpoint: "


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (overwrite(b"no tensors at all"), UNREADABLE),
        (lambda path: os.truncate(path, path.stat().st_size - 1), UNREADABLE),
        (flip_last_bit, UNREADABLE + "wrong checksum"),
        (overwrite(safetensors.torch.save(ONES)), UNREADABLE),
        (overwrite(safetensors.torch.save(ONES, {"fit": "{"})), UNREADABLE),
        (
            edit(lambda fit: fit.update(format_version=1)),
            UNREADABLE + "expected format_version 2, found 1; start a new fit",
        ),
        (edit(lambda fit: fit.pop("format_version")), UNREADABLE + "'format_version'"),
        (edit(lambda fit: fit["config"].update(epochs=0)), UNREADABLE + "epochs: expected 1 to "),
        (edit(lambda fit: fit["config"].update(surprise=0)), UNREADABLE),
        (edit(lambda fit: fit["history"].append([1])), UNREADABLE),
        (edit(lambda fit: fit.update(request=[])), UNREADABLE),
    ],
)
def test_unreadable_file(file: Path, damage: Callable[[Path], object], expected: str) -> None:
    """Any damage gives a one-line error that begins with the path and names it once."""
    damage(file)
    with pytest.raises(DataError, match=f"^{re.escape(f'{file}: {expected}')}.*$") as caught:
        load_checkpoint(file)
    assert 1 == str(caught.value).count(str(file))


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("best"),
        lambda tensors: tensors.pop("losses"),
        lambda tensors: tensors.update(parameters=tensors["parameters"][:-1]),
        lambda tensors: tensors["order"].zero_(),
    ],
    ids=["missing", "no losses", "shape", "generator"],
)
def test_tensors_of_another_network(file: Path, damage: Callable[[Any], object]) -> None:
    """Tensors that do not match the network give a one-line error with the path."""
    checkpoint = load_checkpoint(file)
    damage(tensors := dict(checkpoint.tensors))
    with pytest.raises(DataError, match=f"^{re.escape(str(file))}: .*$"):
        dataclasses.replace(checkpoint, tensors=tensors).restore(new_state())
