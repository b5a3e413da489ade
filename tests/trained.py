"""Networks that are trained and exported for the tests; importing this module imports torch."""

import functools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rich.console import Console

from export import bundle
from model.config import TrainConfig
from model.run import Run, load_run
from model.table import load
from model.training import train
from tests.tables import write_flowers, write_houses

torch.set_num_threads(1)  # pytest-xdist already uses all cores


@dataclass(frozen=True)
class Trained:
    """A run, the artifact published from it, and the CSV file with its data."""

    run: Run
    artifact: Path
    csv: Path


@functools.cache
def train_and_export(folder: Path, csv: Path, target: str, drop: tuple[str, ...] = ()) -> Trained:
    """Train for a few epochs and publish; calls with equal arguments train once per process."""
    table = load.load_table(str(csv), targets=[target], drop=drop)
    config = TrainConfig(hidden_features=16, epochs=20, learning_rate=1e-2)
    path = train(table, config, torch.device("cpu"), folder / "runs", Console(quiet=True))
    run = load_run(path)
    return Trained(run, bundle.build(run, folder / "artifacts").path, csv)


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train and export a classifier of three classes from four features."""
    folder = tmp_path_factory.getbasetemp() / "flowers"
    folder.mkdir(exist_ok=True)  # tests/export and tests/mutants share it
    csv = write_flowers(folder / "flowers.csv")
    return train_and_export(folder, csv, "species", drop=("id",))


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train and export a regressor of one target from three features, one of them constant."""
    folder = tmp_path_factory.getbasetemp() / "houses"
    folder.mkdir(exist_ok=True)
    return train_and_export(folder, write_houses(folder / "houses.csv"), "price €")
