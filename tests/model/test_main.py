"""model.__main__: the train command, in this process and in processes of its own."""

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
    """A current folder with a table of houses."""
    monkeypatch.chdir(tmp_path)
    write_houses(60)
    return tmp_path


def write_houses(count: int) -> None:
    """Write a table of houses, whose prices are linear."""
    rows = [f"{20 + i},{i % 7},{1000 * i + 500.5}" for i in range(count)]
    Path("houses.csv").write_text("\n".join(["size,age,price", *rows]) + "\n")


def run_train(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)


def test_help_states_every_default() -> None:
    """Every option has a phrase of its own, and states its default unless that is "not used"."""
    text = " ".join(CliRunner().invoke(main, ["train", "--help"]).output.split())
    for option in main.commands["train"].params:
        assert isinstance(option, click.Option)
        assert option.help
        if option.opts[0] not in ("--config", "--resume"):
            assert "[default:" in text.partition(f" {option.opts[0]} ")[2].partition(" --")[0]


def test_markup_in_names_is_printed_as_it_is() -> None:
    """Names that look like rich's markup or emoji codes come back unchanged."""
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
    """Bad data or options end in one line and exit code 2, and leave no run behind."""
    Path("newline.csv").write_text('"a\nb",t\n' + "x,1.5\n" * 20)
    Path("fit.toml").write_text("class-weights = []")
    result = run_train(*arguments.split())
    last = result.output.splitlines()[-1]
    assert 2 == result.exit_code
    assert last.startswith(f"Error: {expected}")
    assert not list(folder.rglob("run.json"))


# Resuming


def test_command_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption names the checkpoint, which resumes to the same bits, unless data changed."""
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
    whole, resumed = (load_run(Path("..") / place / "1") for place in ("whole/houses", path.parent))
    assert whole.content == resumed.content
    assert whole.record.history == resumed.record.history
    assert whole.record.config == resumed.record.config
    assert [resumed.path] == list(resumed.path.parent.iterdir())


@pytest.mark.parametrize("arguments", ["--epochs 9", "--lr 0.001", "--config fit.toml"])
def test_resume_takes_no_other_settings(arguments: str) -> None:
    """An option of the fit beside --resume, even with its default, ends in one line."""
    Path("fit.toml").write_text("epochs = 9\n")
    result = run_train("--resume", *arguments.split())
    assert 2 == result.exit_code
    assert re.fullmatch(f"Error: --resume .*{arguments.split()[0]}\n", result.output)


@pytest.mark.parametrize(("options", "place"), [([], "runs"), (["--name", "My t"], "runs/my-t")])
def test_nothing_to_resume(folder: Path, options: list[str], place: str) -> None:
    """Without a checkpoint, the command names the folder that it looked at, and makes none."""
    before = sorted(folder.rglob("*"))
    result = run_train("--resume", *options)
    expected = f"Error: {place}: no checkpoint to resume\n"
    assert (2, expected) == (result.exit_code, result.output)
    assert before == sorted(folder.rglob("*"))


# In processes of their own


@pytest.mark.e2e
def test_failed_write_in_a_real_process(folder: Path) -> None:
    """A write that the system refuses ends in one line and leaves no draft, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [sys.executable, "-B", "-m", "model", "train", *HOUSES, *QUICK]
    # Without these variables, coverage does not write a file of its own.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    variables["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, preexec_fn=limit)
    assert (2, f"Error: {Path('runs/houses')}: File too large\n") == (done.returncode, done.stderr)
    assert [folder / "houses.csv", folder / "runs"] == sorted(folder.rglob("*"))


@pytest.mark.e2e
@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this PyTorch has no gloo")
def test_two_processes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Under torchrun two processes fit what one fits, and only the first prints and writes.

    They sum a gradient in another order, so it differs by its rounding, about 1e-6 of itself. Five
    epochs of one or two Adam steps of 0.001 pass on a thousandth of that, which leaves the losses
    equal to 1e-5.
    """
    options = "train --data wine --epochs 5 --schedule cosine --device cpu --class-weights balanced"
    fit = options.split()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Starting torchrun in this process saves a further import of torch, which takes seconds.
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
    assert runs[0].content != runs[1].content, "the rounding should differ: else it was one process"
