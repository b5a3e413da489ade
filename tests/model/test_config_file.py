"""Tests of `python -m model train --config`, which reads settings from a TOML file."""

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


def test_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting in the file reaches the run, whether its key has dashes or underscores."""
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
