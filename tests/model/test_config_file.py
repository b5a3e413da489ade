"""`python -m model train --config`: the fit is the one that the TOML file describes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from model.__main__ import main
from model.config import TrainConfig
from model.run import load_run

EVERY_SETTING = """
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
CLASS_WEIGHTS = "class_weights: expected equal, balanced, or numbers like 1,2.5,1"


def test_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys with dashes and underscores alike reach the run."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},n{i},{i % 7},{i * i % 11},{'yes' if i % 3 else 'no'}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["id,name,age,size,label", *rows]) + "\n")
    Path("fit.toml").write_text(EVERY_SETTING)
    result = CliRunner().invoke(main, ["train", "--config", "fit.toml"])
    assert 0 == result.exit_code, result.output
    record = load_run(Path("elsewhere/flowers/1")).record
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
    assert ["age", "size"] == [feature.name for feature in record.features]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("epochs = 0", "epochs: expected 1 to 2**31 - 1, found 0"),
        ('class-weights = [1.0, "x"]', f"{CLASS_WEIGHTS}, found '1.0,x'"),
        ("class-weights = []", f"{CLASS_WEIGHTS}, found ''"),
        ('data = "none.csv"', "none.csv: no such file"),
        (None, "fit.toml: No such file or directory"),
    ],
)
def test_bad_value(
    toml: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of the right type that cannot be used is refused as its flag would be."""
    monkeypatch.chdir(tmp_path)
    if toml is not None:
        Path("fit.toml").write_text(toml)
    result = CliRunner().invoke(main, ["train", "--config", "fit.toml"])
    assert (2, f"Error: {message}\n") == (result.exit_code, result.output)
