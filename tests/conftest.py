"""A run and an artifact of each task, made once: the fixtures that carry the suite."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from flask import Flask
from rich.console import Console

from model.run import Run, load_run
from model.training import train

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
torch.set_num_threads(1)  # pytest-xdist uses the cores

from export import bundle
from model.config import TrainConfig
from model.table import load
from service.artifact import manifest, storage
from service.settings import ServiceSettings
from service.web.app import create_app

CLASSES = ("setosa", "versi, color", "vïrginica")


@dataclass(frozen=True)
class Made:
    """A run and the artifact published from it."""

    run: Run
    artifact: Path
    csv: Path


def write_flowers(path: Path, rows: int = 150) -> Path:
    """Write a CSV of three classes with a byte-order mark, `;`, quoted names, and an id column."""
    rng = np.random.default_rng(7)
    labels = np.arange(rows) % 3
    x = rng.normal(size=(rows, 4)) + labels[:, None] * np.array([2.0, -1.5, 0.5, 3.0])
    lines = ['id;"petal, length";sepal width;größe;year;species']
    for i, (a, b, c, d) in enumerate(x):
        lines.append(f'{i};{a:.4f};{b:.4f};{c:.4f};{2000 + round(d)};"{CLASSES[labels[i]]}"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def write_houses(path: Path, rows: int = 120) -> Path:
    """Write a CSV with a decimal target in euros."""
    rng = np.random.default_rng(8)
    size, age = rng.uniform(20, 200, rows), rng.integers(0, 100, rows)
    price = 3000 * size - 500 * age + rng.normal(scale=10_000, size=rows)
    lines = ["size m²,age,constant,price €"]
    lines += [f"{s:.2f},{a},0.1,{p:.2f}" for s, a, p in zip(size, age, price, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make(folder: Path, csv: Path, target: str, drop: tuple[str, ...] = ()) -> Made:
    """Train for a few epochs and publish."""
    table = load.load_table(str(csv), targets=[target], drop=drop)
    config = TrainConfig(hidden_features=16, epochs=20, learning_rate=1e-2)
    path = train(table, config, torch.device("cpu"), folder / "runs", Console(quiet=True))
    trained = load_run(path)
    return Made(trained, bundle.build(trained, folder / "artifacts").path, csv)


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A classifier of three classes from four features."""
    folder = tmp_path_factory.mktemp("flowers")
    return make(folder, write_flowers(folder / "flowers.csv"), "species", drop=("id",))


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A regressor of one target from three features, one of them constant."""
    folder = tmp_path_factory.mktemp("houses")
    return make(folder, write_houses(folder / "houses.csv"), "price €")


@pytest.fixture
def artifact(flowers: Made, tmp_path: Path) -> Path:
    """A copy of the classifier's artifact, to be damaged."""
    return Path(shutil.copytree(flowers.artifact, tmp_path / "flowers" / "1"))


@pytest.fixture
def repack() -> Callable[[Path], None]:
    """Return a function that recomputes SHA256SUMS, so that no hash can see what a test changed."""

    def recompute(path: Path) -> None:
        files = {
            entry.name: entry.read_bytes()
            for entry in path.iterdir()
            if entry.name != manifest.SUMS
        }
        (path / manifest.SUMS).write_bytes(storage.sha256_sums(files))

    return recompute


@pytest.fixture
def float64() -> Iterator[None]:
    """The engine in float64, where rounding cannot hide a wrong formula: its tensors have torch's default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def app(flowers: Made) -> Flask:
    """The application over the classifier."""
    return create_app(ServiceSettings(artifact=flowers.artifact, max_body_bytes=100_000))
