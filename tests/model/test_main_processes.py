"""Tests of the train command in processes of its own: signals, torchrun and failed writes."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from torch import distributed
from torch.distributed.run import main as torchrun

from model.__main__ import main
from model.fit.checkpoint import load_checkpoint
from model.run import load_run
from tests.serving import ROOT, free_port, until

HOUSES = ("--data", "houses.csv", "--target", "price")
TORCHRUN = pytest.mark.skipif(not distributed.is_gloo_available(), reason="PyTorch has no gloo")
pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds houses.csv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MODEL_STARTED_BY_MAKE", raising=False)
    rows = [f"{20 + i},{i % 7},{1000 * i + 500.5}" for i in range(2000)]
    Path("houses.csv").write_text("\n".join(["size,age,price", *rows]) + "\n")
    return tmp_path


def test_failed_write(folder: Path) -> None:
    """A failed write, as on a full disk, gives a one-line error and leaves no draft."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [sys.executable, "-B", "-m", "model", "train", *HOUSES, "--epochs", "2"]
    # Without these variables, coverage writes no file in the subprocess.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    variables["PYTHONPATH"] = str(ROOT)
    child = subprocess.run(command, capture_output=True, text=True, env=variables, preexec_fn=limit)
    assert (2, "Error: runs/houses: File too large\n") == (child.returncode, child.stderr)
    assert [folder / "houses.csv", folder / "runs"] == sorted(folder.rglob("*"))


@contextlib.contextmanager
def fit_for_ever(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start Python with the train command, wait for a checkpoint, and kill it after the block."""
    options = ["train", *HOUSES, "--epochs", "1000000", "--device", "cpu", "--save-every", "0"]
    command, pipe = [sys.executable, *arguments, *options], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as fit:
        try:
            until(lambda: list(Path.cwd().glob("runs/houses/resume-*")))
            yield fit
        finally:
            fit.kill()


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_signal_saves_a_checkpoint(number: int) -> None:
    """A signal ends a real fit with one line for each of error, checkpoint and command."""
    with fit_for_ever("-m", "model") as fit:
        fit.send_signal(number)
        text, errors = fit.communicate()
    word = "interrupted" if number == signal.SIGINT else "terminated"
    expected = 128 + number, f"Error: {word}; no incomplete files remain\n"
    assert expected == (fit.returncode, errors)
    *_, saved, resume = text.splitlines()
    path, _, done = saved.partition(": ")
    assert [Path(path)] == list(Path("runs/houses").iterdir())
    assert re.fullmatch("checkpoint after [0-9]+ of 1000000 epochs.*", done)
    assert 0 < len(load_checkpoint(Path(path)).history)
    command = "python -m model train --resume --name houses --save-every 0"
    assert f"continue with: {command}" == resume


@pytest.mark.slow
@TORCHRUN
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("receiver", ["launcher", "rank 1"])
def test_processes_stop_together(
    monkeypatch: pytest.MonkeyPatch, receiver: str, number: int
) -> None:
    """A signal to torchrun or to one process ends all, with the checkpoint of rank 0."""
    monkeypatch.setenv("TMPDIR", str(Path.cwd()))
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    with fit_for_ever(*launcher, "--master-port", str(free_port()), "-m", "model") as fit:
        pids = [fit.pid]
        if receiver == "rank 1":
            children = psutil.Process(fit.pid).children()
            pids = [child.pid for child in children if child.environ().get("RANK") == "1"]
        os.kill(pids[0], number)
        text, errors = fit.communicate()
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert 2 == errors.count(f"Error: {word}; no incomplete files remain\n"), errors
    *_, saved, resume = text.splitlines()
    path, _, done = saved.partition(": ")
    assert done.startswith("checkpoint after ")
    assert [Path(path)] == list(Path("runs/houses").iterdir())
    expected = "torchrun --nproc-per-node 2 -m model train --resume --name houses --save-every 0"
    assert f"continue with: {expected}" == resume


RANK_1_SEES_PROGRESS = """
import os, sys
from model.fit import loop
own, epochs = loop.mean_loss, []
def mean_loss(*arguments):
    epochs.append(0)
    return own(*arguments) - int(os.environ["RANK"]) * 1e-6 * len(epochs)
loop.mean_loss = mean_loss
from model.__main__ import main
main()
"""
"""A program in which the validation loss stops falling on rank 0, and goes on falling on rank 1."""


@pytest.mark.slow
@TORCHRUN
def test_first_process_decides() -> None:
    """The processes stop early in the same epoch, although their losses differ."""
    Path("program.py").write_text(RANK_1_SEES_PROGRESS)
    options = ["--epochs", "500", "--patience", "5", "--lr", "1e-30", "--device", "cpu"]
    launcher = ["--nproc-per-node", "2", "--master-port", str(free_port())]
    torchrun([*launcher, "program.py", "train", *HOUSES, *options])
    record = load_run(Path("runs/houses/1")).record
    assert (1, 6) == (record.best_epoch, len(record.history))


@TORCHRUN
def test_two_processes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Two processes under torchrun give the same losses as one; only rank 0 prints and writes.

    Gradients are summed in another order, a relative change of 1e-6. Five epochs of one or two Adam
    steps with learning rate 0.001 pass on a thousandth of it, so the losses agree to 1e-5.
    """
    options = "train --data wine --epochs 5 --schedule cosine --device cpu --class-weights balanced"
    fit = options.split()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Calling torchrun in this process avoids another import of torch, which takes seconds.
    torchrun(["--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "model", *fit])
    (path,) = Path("runs/wine").iterdir()
    output = capfd.readouterr().out
    for beginning in ("wine: ", "best epoch ", "runs/wine/1: complete after "):
        assert 1 == sum(line.startswith(beginning) for line in output.splitlines()), output

    assert 0 == CliRunner().invoke(main, [*fit, "--runs", "one"]).exit_code
    runs = load_run(Path("one/wine/1")), load_run(path)
    expected, actual = (
        np.array([(epoch.train_loss, epoch.validation_loss) for epoch in run.record.history])
        for run in runs
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=0)
    assert runs[0].content != runs[1].content, "two processes should give another rounding"
