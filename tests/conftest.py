"""Fixtures for all tests; those that train a network are in tests/trained.py."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from service.artifact import manifest, storage
from tests.stored import FLOWERS, HOUSES, StoredArtifact


@pytest.fixture(scope="session")
def flowers() -> StoredArtifact:
    """A classifier of three classes from four features."""
    return FLOWERS


@pytest.fixture(scope="session")
def houses() -> StoredArtifact:
    """A regressor of one target from three features, one of them constant."""
    return HOUSES


@pytest.fixture
def artifact(flowers: StoredArtifact, tmp_path: Path) -> Path:
    """A copy of the classifier's artifact that a test may damage."""
    return Path(shutil.copytree(flowers.artifact, tmp_path / "flowers" / "1"))


@pytest.fixture
def repack() -> Callable[[Path], None]:
    """A function that recomputes SHA256SUMS, so the hash check accepts an edited artifact."""

    def recompute(path: Path) -> None:
        files = {
            entry.name: entry.read_bytes()
            for entry in path.iterdir()
            if entry.name != manifest.SUMS
        }
        (path / manifest.SUMS).write_bytes(storage.sha256_sums(files))

    return recompute


@pytest.fixture
def add_version(artifact: Path, repack: Callable[[Path], None]) -> Callable[..., Path]:
    """A function that publishes `artifact` again under a number, with some members changed."""

    def publish(number: int, **members: object) -> Path:
        draft = shutil.copytree(artifact, artifact.parent / ".draft")
        document = json.loads((draft / manifest.MANIFEST).read_bytes())
        text = json.dumps(document | {"version": number} | members)
        (draft / manifest.MANIFEST).write_text(text)
        repack(draft)
        return Path(draft.rename(artifact.parent / str(number)))

    return publish
