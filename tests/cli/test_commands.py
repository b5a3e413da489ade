"""model.console: a TOML file of settings, flags that override it, and one line for all that can be wrong with it."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from cli.progress import progress_bar
from model.__main__ import main
from model.config import TrainConfig
from model.run import RunRecord, load_run

OPTIONS = (
    "'data', 'target', 'drop', 'task', 'name', 'runs', 'hidden', 'epochs', 'patience', 'batch-size', 'lr', 'schedule' "
    "and 6 more"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a table."""
    monkeypatch.chdir(tmp_path)
    lines = ["id,name,age,size,label,weight"]
    lines += [f"{i},n{i},{i % 7},{i * i % 11},{'yes' if i % 3 else 'no'},{i}.5" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def train(toml: str | None, *arguments: str) -> Result:
    """Write fit.toml and run the command with it, in this process."""
    if toml is not None:
        Path("fit.toml").write_text(toml, encoding="utf-8")
    return CliRunner().invoke(
        main, ["train", "--config", "fit.toml", *arguments], catch_exceptions=False
    )


def trained(toml: str, *arguments: str) -> RunRecord:
    """Train as the file says, and return the record of the run."""
    result = train(toml, *arguments)
    assert 0 == result.exit_code, result.output
    (path,) = Path().glob("*/*/1")
    return load_run(path).record


WHOLE = """
# every setting that a file can hold
data = "t.csv"
target = "label"
drop = "id,name"
task = "classification"
name = "Flowers"
runs = "elsewhere"
hidden = 3
epochs = 2
patience = 4
batch_size = 7
lr = 1e-2
schedule = "cosine"
weight-decay = 1
reduction = "sum"
class-weights = [1.0, 2]
seed = 5
device = "cpu"
save-every = 60
"""


def test_every_setting() -> None:
    """The fit is the one that the file describes, keys with dashes and underscores alike."""
    record = trained(WHOLE)
    expected = TrainConfig(
        hidden_features=3,
        epochs=2,
        batch_size=7,
        patience=4,
        learning_rate=1e-2,
        schedule="cosine",
        weight_decay=1.0,
        reduction="sum",
        class_weights=(1.0, 2.0),
        seed=5,
    )
    assert expected == record.config
    assert ("flowers", ("label",), "cpu") == (record.name, record.targets, record.device)
    assert ["age", "size", "weight"] == [feature.name for feature in record.features]
    assert Path("elsewhere/flowers/1").is_dir()


def test_flags_override() -> None:
    """What is typed wins over the file, and the file over the default; lists are replaced, not added to."""
    record = trained(
        WHOLE,
        *("--epochs", "3", "--hidden", "100", "--target", "weight", "--task", "regression"),
        *("--class-weights", "equal", "--drop", "id,name,label"),
    )
    assert (3, 100, 7) == (
        record.config.epochs,
        record.config.hidden_features,
        record.config.batch_size,
    )
    assert "equal" == record.config.class_weights
    assert ("weight",) == record.targets
    assert ["age", "size"] == [feature.name for feature in record.features]


def test_same_fit_as_with_flags() -> None:
    """A file and the flags it stands for give the same weights."""
    trained('data = "t.csv"\ntarget = "label"\ndrop = "id,name"\nepochs = 2\nlr = 0.3')
    flags = "--data t.csv --target label --drop id,name --epochs 2 --lr 0.3"
    assert 0 == CliRunner().invoke(main, ["train", *flags.split()]).exit_code
    first, second = (load_run(Path("runs/t") / number) for number in "12")
    assert first.content == second.content
    assert first.record.config == second.record.config


@pytest.mark.parametrize(
    ("toml", "targets", "features"),
    [
        ('target = ["age", "weight"]\ndrop = ["id", "name", "label"]', ("age", "weight"), ["size"]),
        ('target = ["weight"]\ndrop = ["id", "name", "label"]', ("weight",), ["age", "size"]),
        ('target = "weight"\ndrop = "id, name, label"', ("weight",), ["age", "size"]),
    ],
)
def test_lists(toml: str, targets: tuple[str, ...], features: list[str]) -> None:
    """Columns are given one by one, or as on the command line."""
    record = trained(f'data = "t.csv"\nepochs = 1\n{toml}')
    assert targets == record.targets
    assert features == [feature.name for feature in record.features]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('class-weights = "balanced"', "balanced"),
        ("class_weights = [1, 2.5]", (1.0, 2.5)),
        ('class-weights = "1,2.5"', (1.0, 2.5)),
    ],
)
def test_class_weights(toml: str, expected: object) -> None:
    """A word, a list of numbers, or the list as on the command line."""
    record = trained(f'data = "t.csv"\ntarget = "label"\ndrop = "id,name"\nepochs = 1\n{toml}')
    assert expected == record.config.class_weights


BAD: Mapping[str, tuple[str | bytes, str]] = {
    "near miss": ("epoch = 3", f"no setting 'epoch' (did you mean 'epochs'?); there are {OPTIONS}"),
    "near miss with underscore": (
        "batchsize = 3",
        f"no setting 'batchsize' (did you mean 'batch-size'?); there are {OPTIONS}",
    ),
    "unknown": ("qqq = 3", f"no setting 'qqq'; there are {OPTIONS}"),
    "section": ("[fit]\nepochs = 3", f"no setting 'fit'; there are {OPTIONS}"),
    "resume": ("resume = true", f"no setting 'resume'; there are {OPTIONS}"),
    "itself": ('config = "fit.toml"', f"no setting 'config'; there are {OPTIONS}"),
    "text for an integer": ('epochs = "10"', "epochs: expected an integer, found '10'"),
    "decimal for an integer": ("epochs = 1.5", "epochs: expected an integer, found 1.5"),
    "truth for an integer": ("epochs = true", "epochs: expected an integer, found True"),
    "text for a number": ('lr = "x"', "lr: expected a number, found 'x'"),
    "truth for a number": ("weight_decay = false", "weight_decay: expected a number, found False"),
    "number for text": ("data = 3", "data: expected text, found 3"),
    "number for a choice": ("schedule = 1", "schedule: expected text, found 1"),
    "number in a list": ('target = ["a", 1]', "target: expected text, found 1"),
    "date for text": ("name = 2026-01-02", "name: expected text, found datetime.date(2026, 1, 2)"),
    "table for a number": ("lr = {a = 1}", "lr: expected a number, found {'a': 1}"),
    "list for an integer": ("epochs = [1]", "epochs: expected an integer, found a list"),
    "list for a number": ("lr = [1.0]", "lr: expected a number, found a list"),
    "list for text": ('data = ["a.csv"]', "data: expected text, found a list"),
    "choice": ('schedule = "cosin"', "schedule: 'cosin' is not one of 'constant', 'cosine'."),
    "another choice": ('device = "gpu"', "device: 'gpu' is not one of 'auto', 'cpu', 'cuda'."),
    "not TOML": ("epochs: 3", "not readable as TOML: Expected '=' after a key"),
    "twice": ("epochs = 3\nepochs = 4", "not readable as TOML: Cannot overwrite a value"),
    "not text": (b"name = '\xff'", "not readable as TOML: 'utf-8' codec can't decode byte 0xff"),
}
"""Bad files, and how their line goes on after the file's name."""


@pytest.mark.parametrize("name", BAD)
def test_bad_file(folder: Path, name: str) -> None:
    """Exit code 2 and one line: the file, the key, what was expected and what was found; nothing is written."""
    content, expected = BAD[name]
    Path("fit.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    result = train(None)
    assert 2 == result.exit_code
    assert result.output.startswith(f"Error: fit.toml: {expected}")
    assert 1 == len(result.output.splitlines())
    assert {"t.csv", "fit.toml"} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("epochs = 0", "epochs: expected 1 to 2**31 - 1, found 0"),
        ("lr = nan", "learning_rate: expected a positive number, found nan"),
        (
            "weight-decay = inf",
            "weight_decay: expected 0 to less than 1 / learning_rate, found inf",
        ),
        (
            "class-weights = [1.0, -2.0]",
            "class_weights: expected numbers from 1e-06 to 1e+06, found -2",
        ),
        (
            'class-weights = [1.0, "x"]',
            "class_weights: expected equal, balanced, or numbers as 1,2.5,1, found '1.0,x'",
        ),
        (
            "class-weights = []",
            "class_weights: expected equal, balanced, or numbers as 1,2.5,1, found ''",
        ),
        (
            'class-weights = "balance"',
            "class_weights: expected equal, balanced, or numbers as 1,2.5,1, found 'balance'",
        ),
        ('data = "none.csv"', "none.csv: no such file"),
    ],
)
def test_bad_value(toml: str, expected: str) -> None:
    """A value of the right type that cannot be used is refused as the flag would be."""
    result = train(toml)
    assert (2, f"Error: {expected}\n") == (result.exit_code, result.output)


def test_missing_file(folder: Path) -> None:
    """One line with its name; so for a folder."""
    result = train(None)
    assert (2, "Error: fit.toml: No such file or directory\n") == (result.exit_code, result.output)
    (folder / "fit.toml").mkdir()
    result = train(None)
    assert (2, "Error: fit.toml: Is a directory\n") == (result.exit_code, result.output)


def test_flags_are_checked_beside_a_file() -> None:
    """A bad flag is the flag's error also where the file's value was good."""
    result = train("epochs = 3", "--epochs", "many")
    assert 2 == result.exit_code
    assert "Invalid value for '--epochs': 'many' is not a valid integer" in result.output


@pytest.mark.parametrize(("terminal", "expected"), [(True, True), (False, False)])
def test_progress_is_for_terminals(terminal: bool, expected: bool) -> None:
    """On a log nothing is printed at all."""
    shown = io.StringIO()
    with progress_bar(Console(file=shown, force_terminal=terminal, width=80)) as bar:
        bar.update(bar.add_task("fit", total=3, note="note 7"), advance=1)
    assert expected == ("1/3" in shown.getvalue() and "note 7" in shown.getvalue())
    assert expected == bool(shown.getvalue())


def keys(**settings: Any) -> str:
    """Write settings as TOML."""
    return "\n".join(f"{key} = {value!r}" for key, value in settings.items())


def test_file_alone_is_enough() -> None:
    """Settings that are not in it keep their defaults."""
    record = trained(keys(data="t.csv", target="weight", drop="id,name,label", epochs=1))
    assert TrainConfig(epochs=1) == record.config
