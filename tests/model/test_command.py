"""`python -m model train`: files never seen before, and one line for everything that can be wrong."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import distributed

from model import train
from model.__main__ import main
from model.config import TrainConfig
from model.run import load_run
from tests.serving import DEADLINE_SECONDS, ROOT, free_port

QUICK = ("--hidden", "4", "--epochs", "2")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_train(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)


def write(name: str, header: str, row: Callable[[int], str], rows: int = 60) -> str:
    """Write a text file of a header and rows."""
    Path(name).write_text("\n".join([header, *map(row, range(rows))]) + "\n", encoding="utf-8")
    return name


def houses(name: str = "houses.csv") -> str:
    """Write a table of houses with a linear price."""
    return write(name, "size,age,price", lambda i: f"{20 + i},{i % 7},{1000 * i + 500.5}")


UNSEEN = {
    "quoted": (
        '"size, m²","say ""hi""",größe x,price €',
        lambda i: f"{i}.5,{i % 5},{i * i},{1000 * i}.5",
        "price €",
    ),
    "mark": ("\ufeff" + '"a b";c;preis €', lambda i: f'"{i}";{i % 5};{1000 * i}.5', "preis €"),
    "tabs": ("a\tb\tlabel", lambda i: f"{i}\t{i % 5}\t{'no' if i % 3 else 'sí, señor'}", "label"),
    "year": ("year,month,t", lambda i: f"{1960 + i},{i % 12},{i * 7 % 11}.25", "t"),
    "constant": ("a,tenth,zero,t", lambda i: f"{i},0.1,0,{i}.5", "t"),
    "spaces": ("a, b, t", lambda i: f"{i}, {i % 5}, {i}.5", "t"),
    "emoji": (":heart:,[red]b,t", lambda i: f"{i},{i % 5},{i % 2}", "t"),
}
"""Files as people have them: header, row and target."""


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_csv(name: str) -> None:
    """Each is trained on, without a warning; its names come back as they stand in the file."""
    header, row, target = UNSEEN[name]
    result = run_train("--data", write(f"{name}.csv", header, row), "--target", target, *QUICK)
    assert 0 == result.exit_code, result.output
    assert ("constant" == name) == ("warning" in result.output)
    record = load_run(Path(f"runs/{name}/1")).record
    assert (target,) == record.targets
    for feature in record.features:
        assert feature.name in header.replace('""', '"')
    assert (
        f"{name}: 60 rows, {len(record.features)} features; target '{target}' holds"
        in result.output
    )
    assert f"runs/{name}/1: complete after" in result.output.splitlines()[-1]


def test_unix_seconds_are_warned_about() -> None:
    """What float32 rounds away is said before the fit, and kept with the run."""
    write("log.csv", "when,a,t", lambda i: f"{1_700_000_000 + 3600 * i},{i % 5},{i}.5")
    result = run_train("--data", "log.csv", "--target", "t", *QUICK)
    expected = "warning: column 'when': float32 keeps values near 1.7001"
    assert result.output.splitlines()[1].startswith(expected)
    assert (
        result.output.splitlines()[1].removeprefix("warning: ")
        == load_run(Path("runs/log/1")).record.notes[1]
    )


def test_npz_and_options() -> None:
    """Arrays need no --target; name, task, drop and the fit's options are taken as given."""
    np.savez("a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=np.arange(60) % 2)
    arguments = "--data a.npz --task regression --name Other --batch-size 7 --lr 0.5 --seed 3 --device cpu --runs out/x"
    more = (
        "--patience 1 --schedule cosine --weight-decay 0.25 --reduction sum --class-weights equal"
    )
    assert 0 == run_train(*arguments.split(), *more.split(), *QUICK).exit_code
    record = load_run(Path("out/x/other/1")).record
    assert ("regression", "other") == (record.task, record.name)
    expected = TrainConfig(
        hidden_features=4,
        epochs=2,
        batch_size=7,
        patience=1,
        learning_rate=0.5,
        schedule="cosine",
        weight_decay=0.25,
        reduction="sum",
        class_weights="equal",
        seed=3,
    )
    assert expected == record.config
    write("b.csv", '"i,d",name,a,t', lambda i: f"x,y,{i},{i}.5")
    assert (
        0
        == run_train("--data", "b.csv", "--target", "t", "--drop", '"i,d", name', *QUICK).exit_code
    )
    assert ["a"] == [feature.name for feature in load_run(Path("runs/b/1")).record.features]


MISSING = "this version refuses missing values: fill them in or remove the rows"
BAD = {
    "missing file": (None, "t", "bad.csv: no such file"),
    "empty file": (b"", "t", "bad.csv: the file is empty"),
    "missing target": (
        b"a,Price\n1,2\n",
        "price",
        "bad.csv: no target column 'price' (did you mean 'Price'?); there are 'a', 'Price'",
    ),
    "text": (
        b"a,t\n" + b"1,2\n" * 20 + b"three,4\n",
        "t",
        "bad.csv: column 'a', row 21: expected a number, found 'three'; a column of text is left out with --drop",
    ),
    "missing values": (
        b"a,t\n" + b"1,2.5\nNA,4.5\n" * 10,
        "t",
        f"bad.csv: column 'a': 10 missing values, the first in row 2; {MISSING}",
    ),
    "single class": (
        b"a,t\n" + b"1,yes\n2,yes\n" * 10,
        "t",
        "bad.csv: target 't' is 'yes' in every row: expected two classes or more",
    ),
    "too few rows": (b"a,t\n1,2.5\n3,4.5\n", "t", "bad.csv: expected at least 10 rows, found 2"),
    "duplicate": (
        b"a,a,t\n1,2,3\n",
        "t",
        "bad.csv: column 'a' stands 2 times in the header; names must differ",
    ),
    "newline": (
        b'"a\nb",t\n' + b"x,1.5\n" * 20,
        "t",
        "bad.csv: column 'a b', row 1: expected a number, found 'x'; a column of text is left out with --drop",
    ),
}
"""Bad data: the file, the target, and the line it ends in."""


@pytest.mark.parametrize("name", BAD)
def test_bad_data(folder: Path, name: str) -> None:
    """One line, exit code 2, and nothing written."""
    content, target, expected = BAD[name]
    if content is not None:
        Path("bad.csv").write_bytes(content)
    result = run_train("--data", "bad.csv", "--target", target)
    assert (2, f"Error: {expected}\n") == (result.exit_code, result.output)
    assert [folder / "bad.csv"][: content is not None] == list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--epochs 0", "epochs: expected 1 to 2**31 - 1, found 0"),
        ("--lr -1", "learning_rate: expected a positive number, found -1.0"),
        ("--patience -1", "patience: expected 0 (never stop early) or more, found -1"),
        (
            "--weight-decay nan",
            "weight_decay: expected 0 to less than 1 / learning_rate, found nan",
        ),
        (
            "--class-weights 1,x",
            "class_weights: expected equal, balanced, or numbers as 1,2.5,1, found '1,x'",
        ),
        (
            "--class-weights 1,-2.5,1",
            "class_weights: expected numbers from 1e-06 to 1e+06, found -2.5",
        ),
        (
            "--data wine --class-weights 1,2",
            "class_weights: expected 3, one for each of 'class_0', 'class_1', 'class_2', found 2",
        ),
        ("--data diabetes --class-weights balanced", "class_weights: a regression has no classes"),
        ("--data digit", "neither a file nor one of"),
        ("--data wine --target nothing", "wine: no target column 'nothing'"),
        ("--data wine --lr 1e30 --epochs 2", "the loss is "),
        ("--data wine --runs /proc/none", "/proc/none: No such file or directory"),
        ("--data wine --runs file/runs", "file/runs/wine: Not a directory"),
    ],
)
def test_bad_options(folder: Path, arguments: str, expected: str) -> None:
    """One line and exit code 2; no run is left."""
    Path("file").touch()
    result = run_train(*arguments.split())
    last = result.output.splitlines()[-1]
    assert 2 == result.exit_code
    assert last.startswith("Error: ")
    assert expected in last
    assert not [
        path for path in folder.rglob("*") if path not in (folder / "file", folder / "runs")
    ]


@pytest.mark.parametrize(
    ("text", "expected"), [("balanced", "balanced"), ("1,2.5,0.125", (1.0, 2.5, 0.125))]
)
def test_class_weights(text: str, expected: object) -> None:
    """Balanced, or a number for each class."""
    assert 0 == run_train("--data", "wine", "--class-weights", text, *QUICK).exit_code
    assert expected == load_run(Path("runs/wine/1")).record.config.class_weights


def test_patience_ends_a_fit() -> None:
    """Before all epochs are done, and the history says so."""
    result = run_train(
        "--data",
        houses(),
        "--target",
        "price",
        "--lr",
        "0.5",
        "--patience",
        "3",
        "--epochs",
        "1000",
    )
    assert 0 == result.exit_code, result.output
    record = load_run(Path("runs/houses/1")).record
    assert record.best_epoch + 3 == len(record.history) < 1000
    assert (
        f"best epoch {record.best_epoch} of {len(record.history)}, validation loss" in result.output
    )


def test_divergence_after_a_good_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and one line, which names the run of the best epoch; it is complete, and holds the reason."""
    monkeypatch.setattr(
        "model.fit.loop.learning_rates",
        lambda config, first, steps, _: [1e-3 if first < 2 else 1e30] * steps,
    )
    result = run_train(
        "--data", houses(), "--target", "price", "--hidden", "4", "--batch-size", "100"
    )
    saved = load_run(Path("runs/houses/1"))
    best, reason = saved.record.best_epoch, saved.record.notes[-1]
    assert 2 == len(saved.record.history)
    assert reason.startswith("the loss is ")
    assert (2, f"Error: runs/houses/1 holds the best epoch, {best}: {reason}") == (
        result.exit_code,
        result.output.splitlines()[-1],
    )
    assert 1 == result.output.count("Error")
    assert "complete after" not in result.output
    assert [saved.path] == list(Path("runs/houses").iterdir())


def test_cuda_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is asked for and not there is an error, never a silent CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run_train("--data", "wine", "--device", "cuda")
    expected = "Error: device: cuda was asked for, and this PyTorch finds no CUDA device (use auto or cpu)\n"
    assert (2, expected) == (result.exit_code, result.output)


def test_interruption(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a fit ends in one line and exit code 130, and nothing stays."""

    def interrupt(*arguments: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_epochs", interrupt)
    result = run_train("--data", "wine")
    assert 130 == result.exit_code
    assert "Error: interrupted; nothing is half-written" == result.output.splitlines()[-1]
    assert [folder / "runs"] == list(folder.rglob("*"))


@pytest.fixture
def mount(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a small file system with the options given."""
    place = folder / "disk"
    place.mkdir()

    def mounted(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"needs leave to mount: {done.stderr.strip()}")
        return place

    yield mounted
    subprocess.run(["umount", place], capture_output=True)


def test_read_only_folder(mount: Callable[[str], Path]) -> None:
    """It is named before the fit, not after."""
    place = mount("ro,size=1m")
    result = run_train("--data", houses(), "--target", "price", "--runs", str(place / "runs"))
    assert (2, f"Error: {place}/runs: Read-only file system") == (
        result.exit_code,
        result.output.splitlines()[-1],
    )
    assert "best epoch" not in result.output
    assert [] == list(place.iterdir())


def test_full_disk(mount: Callable[[str], Path]) -> None:
    """One line that says where; the run before it stays whole, and no draft is left."""
    place = mount("size=128k")
    arguments = "--data", houses(), "--target", "price", "--runs", str(place / "runs"), *QUICK
    made = 0
    while (result := run_train(*arguments)).exit_code == 0:
        made += 1
    expected = f"Error: {place}/runs/houses: No space left on device"
    assert (2, expected) == (result.exit_code, result.output.splitlines()[-1])
    assert made
    runs = sorted((place / "runs" / "houses").iterdir())
    assert [str(number + 1) for number in range(made)] == [path.name for path in runs]
    for path in runs:
        load_run(path)


@pytest.mark.e2e
def test_real_process(folder: Path) -> None:
    """The command as people start it: plain lines in a log, exit code 0, a run of the same bits as in this process."""
    houses()
    arguments = "--data", "houses.csv", "--target", "price", *QUICK
    command = [sys.executable, "-m", "model", "train", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert "\x1b" not in done.stdout
    assert 0 == run_train(*arguments).exit_code
    first, second = (load_run(folder / "runs" / "houses" / number) for number in "12")
    assert first.content == second.content


@pytest.mark.e2e
def test_file_size_limit_in_a_real_process(folder: Path) -> None:
    """A write that the system refuses, as a full disk does, without leave to mount: one line, exit code 2, no draft."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [
        sys.executable,
        "-B",
        "-m",
        "model",
        "train",
        "--data",
        houses(),
        "--target",
        "price",
        *QUICK,
    ]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COV")
    }  # it would write
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, preexec_fn=limit
    )
    assert (2, f"Error: {Path('runs/houses')}: File too large\n") == (done.returncode, done.stderr)
    assert [folder / "houses.csv", folder / "runs"] == sorted(folder.rglob("*"))


@pytest.mark.e2e
@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this PyTorch has no gloo")
@pytest.mark.parametrize("source", ["wine", pytest.param("houses.csv", marks=pytest.mark.slow)])
def test_two_processes(folder: Path, source: str) -> None:
    """Under torchrun two processes fit what one fits, and one of them speaks and writes.

    They add up a gradient in another order, so each is off by its rounding, about 1e-6 of itself; 5 epochs of one or
    two Adam steps of 0.001 pass on a thousandth of that, which leaves the losses, float32 themselves, equal to 1e-5.
    """
    houses()
    fit = ["--data", source, "--epochs", "5", "--schedule", "cosine", "--device", "cpu"]
    fit += ["--target", "price"] if source == "houses.csv" else ["--class-weights", "balanced"]
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "model", "train", *fit],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=DEADLINE_SECONDS,
    )
    assert 0 == done.returncode, done.stderr
    name = source.removesuffix(".csv")
    (path,) = (folder / "runs" / name).iterdir()
    lines = done.stdout.splitlines()
    for beginning in (f"{name}: ", "best epoch ", f"runs/{name}/1: complete after "):
        assert 1 == sum(line.startswith(beginning) for line in lines), done.stdout

    assert 0 == run_train(*fit, "--runs", "one").exit_code
    found, expected = load_run(path), load_run(folder / "one" / name / "1")
    losses, reference = (
        np.array([(epoch.train_loss, epoch.validation_loss) for epoch in saved.record.history])
        for saved in (found, expected)
    )
    np.testing.assert_allclose(losses, reference, rtol=1e-5, atol=0)
    assert found.content != expected.content, "the rounding should differ: else it was one process"
