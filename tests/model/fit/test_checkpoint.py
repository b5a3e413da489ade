"""model.resume: a fit that is stopped at any moment goes on to the same bits."""

import dataclasses
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors import safe_open
from torch import Tensor

from model.__main__ import main
from model.config import TrainConfig
from model.errors import DataError
from model.fit import checkpoint
from model.fit.checkpoint import Checkpoint, CheckpointWriter, TrainRequest
from model.fit.loop import Epoch, FitState, run_epochs
from model.net import TwoLayerNet
from model.run import Run, load_run
from model.table.dataset import Table
from model.training import train
from tests.conftest import write_flowers, write_houses
from tests.serving import DEADLINE_SECONDS, ROOT

CONFIG = TrainConfig(hidden_features=6, epochs=12, batch_size=8, learning_rate=0.1)
REQUEST = TrainRequest(
    source="/data/t.csv", targets=("y",), drop=("a, b", "c"), task="regression", name="T"
)
BOTH = pytest.mark.parametrize("classes", [(), ("no", "yes")], ids=["regression", "classification"])


def table(classes: tuple[str, ...] = (), rows: int = 60) -> Table:
    """Make a table of two noisy columns and a target that follows from them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    y = x[:, :1] - x[:, 1:] + rng.normal(size=(rows, 1))
    return Table(
        name="t",
        task="classification" if classes else "regression",
        features=("a", "b"),
        kinds=("float", "float"),
        x=x,
        targets=("y",),
        y=(y[:, 0] > 0).astype(np.int64) if classes else y.astype(np.float64),
        classes=classes,
        notes=("note",),
    )


def begun(config: TrainConfig, classes: tuple[str, ...]) -> FitState:
    """Begin a fit."""
    torch.manual_seed(0)
    return FitState(TwoLayerNet(2, 6, len(classes) or 1), config, classification=bool(classes))


def fit(
    state: FitState, classes: tuple[str, ...], after: Callable[[], object] = lambda: None
) -> None:
    """Fit to the end: few rows, so that the best epoch is not the last one."""
    x, y = (torch.from_numpy(values) for values in (table(classes).x, table(classes).y))
    y = y if classes else y.float()
    for _ in run_epochs(state, (x[:40], y[:40]), (x[40:], y[40:])):
        after()


def snapshot(state: FitState) -> dict[str, Tensor]:
    """Copy the state."""
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def keeper(
    folder: Path, config: TrainConfig = CONFIG, request: TrainRequest = REQUEST, name: str = "t"
) -> CheckpointWriter:
    """Keep a fit to the table under folder."""
    return CheckpointWriter(
        folder, dataclasses.replace(table(), name=name), request, config, 3, 0.0
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of a fit of two epochs."""
    state, kept = begun(CONFIG, ()), keeper(tmp_path)
    state.history = [Epoch(1, 0.1, 1 / 3), Epoch(2, 1e-300, 0.5)]
    kept.save(state)
    return kept.path


def test_round_trip(tmp_path: Path) -> None:
    """Every setting, figure and bit comes back, the state of the generator among them."""
    config = dataclasses.replace(
        CONFIG, class_weights=(0.1, 1 / 3), schedule="cosine", learning_rate=1 / 3
    )
    state, kept = begun(config, ("no", "yes")), keeper(tmp_path, config)
    fit(state, ("no", "yes"))
    kept.save(state)
    found = checkpoint.load_checkpoint(kept.path)
    assert (kept.path, REQUEST, config, 3) == (
        found.path,
        found.request,
        found.config,
        found.threads,
    )
    assert tuple(state.history) == found.history
    assert state.tensors().keys() == found.tensors.keys()
    for name, tensor in state.tensors().items():
        assert torch.equal(tensor, found.tensors[name]), name
    assert found == dataclasses.replace(
        checkpoint.newest_checkpoint(tmp_path, "t"), tensors=found.tensors
    )


# The same bits

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cosine": {"schedule": "cosine"},
    "patience": {"patience": 5, "epochs": 40},
    "one batch": {"batch_size": 100, "epochs": 24},
    "decay and sum": {"weight_decay": 0.3, "reduction": "sum"},
}


@BOTH
@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_fit_is_the_uninterrupted_one(
    tmp_path: Path, variant: str, classes: tuple[str, ...]
) -> None:
    """Stopped after any epoch and gone on with in a new process's objects, it ends in the same bits and history."""
    config = dataclasses.replace(CONFIG, **VARIANTS[variant])
    whole = begun(config, classes)
    fit(whole, classes)
    assert whole.best_epoch is not None
    assert 1 < whole.best_epoch.number < len(whole.history), (
        "the best epoch should be one in the middle"
    )
    for stop_after in range(1, len(whole.history) + 1):
        state, kept = begun(config, classes), keeper(tmp_path, config)

        def stop(
            state: FitState = state, kept: CheckpointWriter = kept, stop_after: int = stop_after
        ) -> None:
            if len(state.history) == stop_after:
                kept.save(state)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(state, classes, stop)
        found = checkpoint.load_checkpoint(kept.path)
        resumed = begun(found.config, classes)
        resumed.restore(found.tensors, found.history)
        fit(resumed, classes)
        assert whole.history == resumed.history
        for name, tensor in whole.tensors().items():
            assert torch.equal(tensor, resumed.tensors()[name]), (stop_after, name)
        for expected, parameter in zip(
            whole.net.parameters(), resumed.net.parameters(), strict=True
        ):
            assert torch.equal(expected, parameter)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    """A fit that is saved after every epoch is the one that never is."""
    silent, kept = begun(CONFIG, ()), begun(CONFIG, ())
    fit(silent, ())
    fit(kept, (), lambda: keeper(tmp_path).save(kept))
    assert silent.history == kept.history
    assert all(
        torch.equal(tensor, kept.tensors()[name]) for name, tensor in silent.tensors().items()
    )


# Which file


def test_settings_have_files_of_their_own(tmp_path: Path) -> None:
    """Two fits of one name do not overwrite each other; the same settings are the same fit."""
    other = dataclasses.replace(CONFIG, seed=1)
    request = dataclasses.replace(REQUEST, drop=("a",))
    paths = {
        keeper(tmp_path).path,
        keeper(tmp_path, other).path,
        keeper(tmp_path, request=request).path,
    }
    assert 3 == len(paths)
    assert keeper(tmp_path).path == keeper(tmp_path, dataclasses.replace(CONFIG)).path
    for path in paths:
        assert tmp_path / "t" == path.parent
        assert re.fullmatch(r"resume-[0-9a-f]{8}\.safetensors", path.name)


def test_newest_is_the_one_saved_last(tmp_path: Path) -> None:
    """Over all names, or of one; finished runs and drafts beside it are not looked at."""
    for index, (name, seed) in enumerate((("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2))):
        kept = keeper(tmp_path, dataclasses.replace(CONFIG, seed=seed), name=name)
        kept.save(begun(CONFIG, ()))
        os.utime(kept.path, (4e9 - index, 4e9 - index))
    (tmp_path / "a" / "1").mkdir()
    (tmp_path / "a" / ".tmp-x").mkdir()
    assert (0, 0) == (
        checkpoint.newest_checkpoint(tmp_path).config.seed,
        checkpoint.newest_checkpoint(tmp_path, "b").config.seed,
    )
    checkpoint.newest_checkpoint(tmp_path, "a").path.unlink()
    assert "b" == checkpoint.newest_checkpoint(tmp_path).path.parent.name
    assert 1 == checkpoint.newest_checkpoint(tmp_path, "a").config.seed


@pytest.mark.parametrize(("name", "where"), [(None, ""), ("houses", "/houses")])
def test_nothing_to_resume(tmp_path: Path, name: str | None, where: str) -> None:
    """Said in one line, with the place that was looked at."""
    expected = f"{tmp_path}{where}: no interrupted fit to resume"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        checkpoint.newest_checkpoint(tmp_path, name)


# What is refused


@pytest.mark.parametrize(
    "changes",
    [
        {"x": table().x + np.float32(1e-6)},
        {"y": table().y * 2},
        {"x": table().x[:-1], "y": table().y[:-1]},
        {"features": ("a", "c")},
        {"targets": ("z",)},
        {"kinds": ("float", "integer")},
        {"task": "classification", "classes": ("no", "yes"), "y": table(("no", "yes")).y},
    ],
    ids=["x", "y", "rows", "features", "targets", "kinds", "task"],
)
def test_changed_data_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    """The same data under another path or name go on; any other value, row, name or type does not."""
    unfinished = checkpoint.load_checkpoint(saved)
    unfinished.refuse_other(dataclasses.replace(table(), name="other", notes=()))
    expected = f"{saved}: the data have changed since the fit was begun; start it anew"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        unfinished.refuse_other(dataclasses.replace(table(), **changes))


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Return a function that changes the JSON in a file's header."""

    def rewrite(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            document = json.loads(file.metadata()["fit"])
        change(document)
        text, tensors = json.dumps(document), safetensors.torch.load_file(path)
        header = {"fit": text, "sha256": checkpoint._checksum(text, tensors)}
        path.write_bytes(safetensors.torch.save(tensors, header))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(b""), "not a readable interrupted fit: "),
        (lambda path: path.write_bytes(b"no tensors at all"), "not a readable interrupted fit: "),
        (
            lambda path: os.truncate(path, path.stat().st_size // 2),
            "not a readable interrupted fit: ",
        ),
        (
            lambda path: os.truncate(path, path.stat().st_size - 1),
            "not a readable interrupted fit: ",
        ),
        (
            lambda path: path.write_bytes(safetensors.torch.save({"x": torch.ones(1)})),
            "not a readable interrupted fit: ",
        ),
        (
            lambda path: path.write_bytes(
                safetensors.torch.save({"x": torch.ones(1)}, {"fit": "{"})
            ),
            "not a readable interrupted fit: ",
        ),
        (
            rewritten(lambda document: document.update(format_version=2)),
            "expected format_version 1, found 2",
        ),
        (
            rewritten(lambda document: document.pop("format_version")),
            "not a readable interrupted fit: 'format_version'",
        ),
        (
            rewritten(lambda document: document.pop("threads")),
            "not a readable interrupted fit: 'threads'",
        ),
        (
            rewritten(lambda document: document["config"].update(epochs=0)),
            "not a readable interrupted fit: epochs: expected 1 to 2**31 - 1, found 0",
        ),
        (
            rewritten(lambda document: document["config"].update(surprise=0)),
            "not a readable interrupted fit: ",
        ),
        (
            rewritten(lambda document: document["history"].append([1])),
            "not a readable interrupted fit: ",
        ),
        (
            rewritten(lambda document: document.update(request=[])),
            "not a readable interrupted fit: ",
        ),
    ],
)
def test_file_that_cannot_be_read(
    saved: Path, damage: Callable[[Path], object], expected: str
) -> None:
    """One line that begins with the file, whatever is wrong with it."""
    damage(saved)
    with pytest.raises(DataError, match=f"^{re.escape(f'{saved}: {expected}')}") as caught:
        checkpoint.load_checkpoint(saved)
    assert 1 == len(str(caught.value).splitlines())
    assert 1 == str(caught.value).count(str(saved))


# A run's file


@BOTH
def test_file_is_kept_while_the_fit_runs_and_removed_once_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    """Saved after each epoch where no time lies between two saves; then the run takes its place."""
    seen = []

    def watched(state: FitState, *arguments: Any) -> Iterator[Epoch]:
        for epoch in run_epochs(state, *arguments):
            seen.append(
                [
                    len(checkpoint.load_checkpoint(path).history)
                    for path in tmp_path.rglob("resume-*")
                ]
            )
            yield epoch

    monkeypatch.setattr(train, "run_epochs", watched)
    path = train(
        table(classes),
        CONFIG,
        torch.device("cpu"),
        tmp_path,
        Console(quiet=True),
        request=REQUEST,
        save_seconds=0,
    )
    assert [[], *([number] for number in range(1, 12))] == seen
    assert [path] == list((tmp_path / "t").iterdir())


def test_nothing_is_kept_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody could ask again, no file is written."""
    monkeypatch.setattr(
        CheckpointWriter, "save", lambda *arguments: pytest.fail("should not be saved")
    )
    train(table(), CONFIG, torch.device("cpu"), tmp_path, Console(quiet=True), save_seconds=0)


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Also when the fit was complete and only its run not yet written; it uses as many threads as it was begun with."""

    def go(folder: Path, unfinished: Checkpoint | None = None) -> Run:
        path = train(
            table(),
            CONFIG,
            torch.device("cpu"),
            folder,
            Console(file=io.StringIO()),
            unfinished=unfinished,
        )
        return load_run(path)

    whole = go(tmp_path / "whole")
    kept = keeper(tmp_path / "kept")
    states: list[FitState] = []

    def watched(state: FitState, *arguments: Any) -> Iterator[Epoch]:
        states.append(state)
        for epoch in run_epochs(state, *arguments):
            kept.save(state)
            yield epoch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run_epochs", watched)
        go(tmp_path / "watched")
    assert 12 == len(checkpoint.load_checkpoint(kept.path).history)
    torch_threads = torch.get_num_threads()
    resumed = go(tmp_path / "resumed", checkpoint.load_checkpoint(kept.path))
    torch.set_num_threads(torch_threads)
    assert whole.content == resumed.content
    assert 3 == resumed.record.threads
    assert dataclasses.replace(whole.record, created="", threads=3) == dataclasses.replace(
        resumed.record, created=""
    )


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two tables."""
    monkeypatch.chdir(tmp_path)
    write_flowers(tmp_path / "flowers.csv")
    write_houses(tmp_path / "houses.csv")
    return tmp_path


def command(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fit be interrupted, by Ctrl-C, so many epochs after the run begins to count them."""

    def interrupted(state: FitState, *arguments: Any) -> Iterator[Epoch]:
        for count, epoch in enumerate(run_epochs(state, *arguments)):
            if count == epochs:
                raise KeyboardInterrupt
            yield epoch

    monkeypatch.setattr(train, "run_epochs", interrupted)


FLOWERS = (
    "--data",
    "flowers.csv",
    "--target",
    "species",
    "--drop",
    "id",
    "--hidden",
    "4",
    "--epochs",
    "9",
)
HOUSES = (
    "--data",
    "houses.csv",
    "--target",
    "price €",
    "--schedule",
    "cosine",
    "--hidden",
    "4",
    "--epochs",
    "9",
)


@pytest.mark.parametrize("arguments", [FLOWERS, HOUSES], ids=["flowers", "houses"])
def test_command_resumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """It says what it keeps, goes on from another folder with the settings of then, and ends in the same bits."""
    assert 0 == command(*arguments, "--runs", "whole").exit_code
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        result = command(*arguments, "--name", "Some name", "--save-every", "0")
    (kept,) = (folder / "runs" / "some-name").iterdir()
    expected = [
        f"{kept.relative_to(folder)}: the fit after epoch 4; --resume goes on with it",
        "Error: interrupted; nothing is half-written",
    ]
    assert (130, expected) == (result.exit_code, result.output.splitlines()[-2:])

    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    result = command("--resume", "--runs", "../runs", "--name", "Some name", "--save-every", "7")
    assert 0 == result.exit_code, result.output
    assert "going on after epoch 4 of 9, as begun" in result.output.splitlines()
    name = arguments[1].removesuffix(".csv")
    whole, resumed = load_run(folder / "whole" / name / "1"), load_run(kept.parent / "1")
    assert whole.content == resumed.content
    assert whole.record.history == resumed.record.history
    assert whole.record.config == resumed.record.config
    assert [kept.parent / "1"] == list(kept.parent.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--epochs 9", "leave out --epochs"),
        ("--data houses.csv", "leave out --data"),
        ("--target a --target b", "leave out --target"),
        ("--class-weights balanced", "leave out --class-weights"),
        ("--device cpu", "leave out --device"),
        ("--lr 0.001", "leave out --lr"),  # also where it is the default
        ("--config fit.toml", "leave out --config"),
    ],
)
def test_resume_takes_no_other_settings(folder: Path, arguments: str, expected: str) -> None:
    """Exit code 2 and the option to leave out, whether or not there is something to resume."""
    (folder / "fit.toml").write_text("epochs = 9\n")
    result = command("--resume", *arguments.split())
    line = f"Error: --resume brings the settings it was begun with: {expected}\n"
    assert (2, line) == (result.exit_code, result.output)


def test_command_has_nothing_to_resume(folder: Path) -> None:
    """Exit code 2, one line, and no folder is made."""
    before = sorted(folder.rglob("*"))
    result = command("--resume")
    assert (2, "Error: runs: no interrupted fit to resume\n") == (result.exit_code, result.output)
    result = command("--resume", "--name", "My houses")
    assert (2, "Error: runs/my-houses: no interrupted fit to resume\n") == (
        result.exit_code,
        result.output,
    )
    assert before == sorted(folder.rglob("*"))


def test_command_refuses_changed_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was written to since is not gone on with; what was kept stays."""
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        command(*FLOWERS, "--save-every", "0")
    write_flowers(folder / "flowers.csv", rows=153)
    result = command("--resume")
    (kept,) = Path("runs/flowers").iterdir()
    expected = f"Error: {kept}: the data have changed since the fit was begun; start it anew"
    assert (2, expected) == (result.exit_code, result.output.splitlines()[-1])


@pytest.mark.e2e
@pytest.mark.slow
def test_three_kills(folder: Path) -> None:
    """SIGKILL at three random moments, --resume after each: the weights are the uninterrupted run's, byte for byte."""
    arguments = (
        *FLOWERS[:-1],
        "3000",
        "--batch-size",
        "16",
    )  # so many that none is over when it is killed
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "model", "train", "--save-every", "0"]
    rng = random.SystemRandom()

    def reached() -> int:
        try:
            return len(checkpoint.newest_checkpoint(Path("runs")).history)
        except DataError:  # not yet
            return 0

    stops = sorted(rng.sample(range(1, 200), 3))
    for stop, options in zip(
        stops, itertools.chain([arguments], itertools.repeat(["--resume"])), strict=False
    ):
        process = subprocess.Popen(
            [*start, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while reached() < stop and process.poll() is None:
            assert time.monotonic() < deadline, f"epoch {stop} of {stops} was not reached"
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0].decode()
        assert -signal.SIGKILL == process.returncode, output
    done = subprocess.run(
        [*start[:-2], "--resume"], env=environment, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr), stops

    assert 0 == command(*arguments, "--runs", "whole").exit_code
    whole, resumed = load_run(Path("whole/flowers/1")), load_run(Path("runs/flowers/1"))
    assert whole.content == resumed.content, stops
    assert whole.record.history == resumed.record.history, stops
    assert [resumed.path] == list(resumed.path.parent.iterdir()), (
        "nothing half-written should be left"
    )


@pytest.mark.parametrize("damage", ["missing", "shape", "generator"])
def test_tensors_of_another_network(saved: Path, damage: str) -> None:
    """A file that loads but does not fit the network is refused in one line that names it."""
    found = checkpoint.load_checkpoint(saved)
    tensors = dict(found.tensors)
    if damage == "missing":
        del tensors["best"]
    elif damage == "shape":
        tensors["parameters"] = tensors["parameters"][:-1]
    else:
        tensors["order"] = torch.zeros_like(tensors["order"])
    with pytest.raises(DataError) as caught:
        dataclasses.replace(found, tensors=tensors).restore(begun(CONFIG, ()))
    assert str(caught.value).startswith(f"{saved}: ")
    assert "\n" not in str(caught.value)


def test_flipped_bit_is_refused(saved: Path) -> None:
    """A tensor that is not what was saved is not gone on with."""
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(
        DataError, match=r"not a readable interrupted fit: its checksum does not hold$"
    ):
        checkpoint.load_checkpoint(saved)


def test_other_number_of_processes_is_refused(saved: Path) -> None:
    """The bits of a fit depend on it."""
    found = dataclasses.replace(checkpoint.load_checkpoint(saved), processes=2)
    with pytest.raises(
        DataError, match=f"^{re.escape(str(saved))}: expected 2 processes, found 1$"
    ):
        found.refuse_other(table())
