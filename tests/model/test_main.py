"""Tests of model.__main__: the train command, in this process and in subprocesses."""

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from torch import distributed
from torch.distributed.run import main as torchrun

from model.__main__ import main
from model.run import load_run
from tests.model.epochs import interrupt_after, watch_epochs
from tests.serving import ROOT, free_port

QUICK = ("--hidden", "4", "--epochs", "2")
HOUSES = ("--data", "houses.csv", "--target", "price")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds houses.csv."""
    monkeypatch.chdir(tmp_path)
    write_houses(60)
    return tmp_path


def write_houses(count: int) -> None:
    """Write a table of houses whose price is linear in the size."""
    rows = [f"{20 + i},{i % 7},{1000 * i + 500.5}" for i in range(count)]
    Path("houses.csv").write_text("\n".join(["size,age,price", *rows]) + "\n")


def run_train(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)


def test_help_states_every_default() -> None:
    """Every option has a help text, which gives the default where there is one."""
    text = " ".join(CliRunner().invoke(main, ["train", "--help"]).output.split())
    for option in main.commands["train"].params:
        assert isinstance(option, click.Option)
        assert option.help
        if option.opts[0] not in ("--config", "--resume"):
            assert "[default:" in text.partition(f" {option.opts[0]} ")[2].partition(" --")[0]


def test_markup_in_names_is_printed_as_it_is() -> None:
    """Names that look like rich's markup or emoji codes are printed and saved unchanged."""
    rows = [f"{i},{i % 5},{i % 2}" for i in range(60)]
    Path("emoji.csv").write_text("\n".join([":heart:,[red]b,[t]", *rows]) + "\n")
    options = "--data emoji.csv --target [t] --task regression --name [Other] --runs out/x"
    result = run_train(*options.split(), *QUICK)
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert "other: 60 rows, 2 features; regression of '[t]', as given by --task" == lines[0]
    assert lines[-1].startswith("out/x/other/1: complete after ")
    features = load_run(Path("out/x/other/1")).record.features
    assert [":heart:", "[red]b"] == [feature.name for feature in features]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--data none.csv --target t", "none.csv: no such file"),
        ("--data newline.csv --target t", "newline.csv: column 'a b', row 1: expected a number, "),
        ("--epochs 0", "epochs: expected 1 to 2**31 - 1, found 0"),
        ("--class-weights 1,x", "class_weights: expected equal, balanced, or numbers like "),
        ("--config fit.toml", "class_weights: expected equal, balanced, or numbers like "),
        ("--config none.toml", "none.toml: No such file or directory"),
        ("--data wine --lr 1e30 --epochs 2", "the loss is "),
        ("--data wine --runs /proc/none", "/proc/none: No such file or directory"),
        ("--data wine --runs houses.csv/runs", "houses.csv/runs/wine: Not a directory"),
    ],
)
def test_bad_input(folder: Path, arguments: str, expected: str) -> None:
    """Invalid data or options give a one-line error and exit code 2, and leave no run."""
    Path("newline.csv").write_text('"a\nb",t\n' + "x,1.5\n" * 20)
    Path("fit.toml").write_text("class-weights = []")
    result = run_train(*arguments.split())
    last = result.output.splitlines()[-1]
    assert 2 == result.exit_code
    assert last.startswith(f"Error: {expected}")
    assert not list(folder.rglob("run.json"))


# Resuming


def test_command_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted fit resumes from its checkpoint to the same bits, unless data changed."""
    arguments = (*HOUSES, "--hidden", "4", "--epochs", "9", "--schedule", "cosine")
    assert 0 == run_train(*arguments, "--runs", "whole").exit_code
    with monkeypatch.context() as patch:
        watch_epochs(patch, interrupt_after(4))
        result = run_train(*arguments, "--name", "Some name", "--save-every", "0")
    (path,) = Path("runs/some-name").iterdir()
    expected = f"{path}: checkpoint after epoch 4; continue it with --resume"
    assert (130, expected) == (result.exit_code, result.output.splitlines()[-2])

    write_houses(63)
    result = run_train("--resume")
    expected = f"Error: {path}: the data have changed; start a new fit"
    assert (2, expected) == (result.exit_code, result.output.splitlines()[-1])

    write_houses(60)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    result = run_train("--resume", "--runs", "../runs", "--name", "Some name", "--save-every", "7")
    assert 0 == result.exit_code, result.output
    assert "resuming after epoch 4 of 9" in result.output.splitlines()
    whole, resumed = (load_run(Path("..") / name / "1") for name in ("whole/houses", path.parent))
    assert whole.content == resumed.content
    assert whole.record.history == resumed.record.history
    assert whole.record.config == resumed.record.config
    assert [resumed.path] == list(resumed.path.parent.iterdir())


@pytest.mark.parametrize("arguments", ["--epochs 9", "--lr 0.001", "--config fit.toml"])
def test_resume_takes_no_other_settings(arguments: str) -> None:
    """--resume with another option of the fit gives a one-line error."""
    Path("fit.toml").write_text("epochs = 9\n")
    result = run_train("--resume", *arguments.split())
    assert 2 == result.exit_code
    assert re.fullmatch(f"Error: --resume .*{arguments.split()[0]}\n", result.output)


@pytest.mark.parametrize(("options", "runs"), [([], "runs"), (["--name", "My t"], "runs/my-t")])
def test_nothing_to_resume(folder: Path, options: list[str], runs: str) -> None:
    """Without a checkpoint, the error names the searched folder, and no folder is created."""
    before = sorted(folder.rglob("*"))
    result = run_train("--resume", *options)
    expected = f"Error: {runs}: no checkpoint to resume\n"
    assert (2, expected) == (result.exit_code, result.output)
    assert before == sorted(folder.rglob("*"))


# Subprocesses


@pytest.mark.e2e
def test_failed_write(folder: Path) -> None:
    """A failed write, as on a full disk, gives a one-line error and leaves no draft."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [sys.executable, "-B", "-m", "model", "train", *HOUSES, *QUICK]
    # Without these variables, coverage writes no file in the subprocess.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    variables["PYTHONPATH"] = str(ROOT)
    child = subprocess.run(command, capture_output=True, text=True, env=variables, preexec_fn=limit)
    assert (2, "Error: runs/houses: File too large\n") == (child.returncode, child.stderr)
    assert [folder / "houses.csv", folder / "runs"] == sorted(folder.rglob("*"))


@pytest.mark.e2e
@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this PyTorch has no gloo")
def test_two_processes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Two processes under torchrun give the same losses as one; only rank 0 prints and writes.

    Gradients are summed in another order, a relative change of 1e-6. Five epochs of one or two Adam
    steps with learning rate 0.001 pass on a thousandth of it, so the losses agree to 1e-5.
    """
    options = "train --data wine --epochs 5 --schedule cosine --device cpu --class-weights balanced"
    fit = options.split()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Calling torchrun in this process avoids another import of torch, which takes seconds.
    torchrun(["--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "model", *fit])
    (path,) = Path("runs/wine").iterdir()
    output = capfd.readouterr().out
    for beginning in ("wine: ", "best epoch ", "runs/wine/1: complete after "):
        assert 1 == sum(line.startswith(beginning) for line in output.splitlines()), output

    assert 0 == run_train(*fit[1:], "--runs", "one").exit_code
    runs = load_run(Path("one/wine/1")), load_run(path)
    expected, actual = (
        np.array([(epoch.train_loss, epoch.validation_loss) for epoch in run.record.history])
        for run in runs
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=0)
    assert runs[0].content != runs[1].content, "two processes should give another rounding"
