"""Artifacts stored under tests/data, for tests that run without torch."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.artifact import manifest, storage
from service.artifact.weights import read_tensors

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact under tests/data and the table that it was trained on."""

    artifact: Path
    csv: Path

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of weights.safetensors by name."""
        content = (self.artifact / manifest.WEIGHTS).read_bytes()
        return {
            name: np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
            for name, (shape, data) in read_tensors(content).items()
        }

    @property
    def rows(self) -> NDArray[np.float32]:
        """The first 100 rows of the table, (100, in_features)."""
        names = [feature.name for feature in storage.read_artifact(self.artifact).manifest.features]
        with self.csv.open(encoding="utf-8-sig", newline="") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            records = list(csv.DictReader(file, delimiter=delimiter))[:100]
        return np.array([[float(record[name]) for name in names] for record in records], np.float32)


FLOWERS = StoredArtifact(DATA / "artifacts/flowers/1", DATA / "flowers.csv")
"""A classifier of three classes from four features."""
HOUSES = StoredArtifact(DATA / "artifacts/houses/1", DATA / "houses.csv")
"""A regressor of one target from three features, one of them constant."""
RETRAINED_FLOWERS = StoredArtifact(DATA / "artifacts/retrained/flowers/1", DATA / "flowers.csv")
"""The classifier trained on fewer rows; it is also version 1."""
