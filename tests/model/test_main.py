"""Tests of model.__main__: the train command, in this process and in subprocesses."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from model.__main__ import MAKE_VARIABLE, main, resume_command
from model.run import load_run
from tests.model.epochs import interrupt_after, watch_epochs

QUICK = ("--hidden", "4", "--epochs", "2")
HOUSES = ("--data", "houses.csv", "--target", "price")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
"""Variables that torchrun sets."""


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
        ("--epochs 0", "--epochs: expected 1 to 2**31 - 1, found 0"),
        ("--lr nan", "--lr: expected a positive number, found nan"),
        ("--class-weights 1,x", "--class-weights: expected equal, balanced, or numbers like "),
        ("--data diabetes --class-weights balanced", "--class-weights: a regression has no "),
        ("--config fit.toml", "fit.toml: class-weights: expected equal, balanced, or numbers "),
        ("--config fit.toml --class-weights x", "--class-weights: expected equal, balanced, or "),
        ("--config rate.toml", "rate.toml: lr: expected a positive number, found nan"),
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
    Path("rate.toml").write_text("lr = nan")
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
        result = run_train(*arguments, "--name", "Some name")
    (path,) = Path("runs/some-name").iterdir()
    assert (130, f"{path}: checkpoint after 4 of 9 epochs") == (
        result.exit_code,
        result.output.splitlines()[-3],
    )

    write_houses(63)
    result = run_train("--resume")
    expected = f"Error: {path}: the data have changed; start a new fit"
    assert (2, expected) == (result.exit_code, result.output.splitlines()[-1])

    write_houses(60)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    result = run_train("--resume", "--runs", "../runs", "--name", "Some name", "--save-every", "7")
    assert 0 == result.exit_code, result.output
    assert "resuming after 4 of 9 epochs" in result.output.splitlines()
    whole, resumed = (load_run(Path("..") / name / "1") for name in ("whole/houses", path.parent))
    assert whole.content == resumed.content
    assert whole.record.history == resumed.record.history
    assert whole.record.config == resumed.record.config
    assert [resumed.path] == list(resumed.path.parent.iterdir())


@pytest.mark.parametrize(
    ("variables", "runs", "save_every", "expected"),
    [
        ({}, "runs", 30, "python -m model train --resume --name houses"),
        (
            {},
            "my runs",
            5,
            "python -m model train --resume --name houses --runs 'my runs' --save-every 5",
        ),
        ({"MAKELEVEL": "1"}, "runs", 30, "python -m model train --resume --name houses"),
        ({MAKE_VARIABLE: "1"}, "runs", 30, "make resume NAME=houses"),
        (
            {MAKE_VARIABLE: "1"},
            "x",
            30,
            ".venv/bin/python -m model train --resume --name houses --runs x",
        ),
        (
            TORCHRUN | {MAKE_VARIABLE: "1"},
            "runs",
            30,
            "torchrun --nproc-per-node 2 -m model train --resume --name houses",
        ),
        (
            TORCHRUN | {"WORLD_SIZE": "6"},
            "runs",
            30,
            "torchrun --nnodes 3 --nproc-per-node 2 -m model train --resume --name houses",
        ),
    ],
)
def test_resume_command(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    runs: str,
    save_every: int,
    expected: str,
) -> None:
    """The command names the fit and repeats the options that are not stored with it."""
    for name in ("MAKELEVEL", MAKE_VARIABLE, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    group = click.Context(main, info_name="python -m model")
    with click.Context(main.commands["train"], parent=group, info_name="train"):
        assert expected == resume_command("houses", Path(runs), save_every)


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
