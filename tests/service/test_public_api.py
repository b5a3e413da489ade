"""Tests of the public names of the package `service`, which are imported at their first use."""

import subprocess
import sys

import pytest

import service
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from tests.serving import ROOT
from tests.stored import StoredArtifact


def test_public_names() -> None:
    """Predictor and ArtifactError are the documented classes; other names raise an error."""
    assert (Predictor, ArtifactError) == (service.Predictor, service.ArtifactError)
    with pytest.raises(AttributeError, match="module 'service' has no attribute 'predict'"):
        service.predict  # type: ignore[attr-defined] # noqa: B018


def test_read_manifest(flowers: StoredArtifact) -> None:
    """read_manifest accepts artifacts/<name> and artifacts/<name>/<version>."""
    for path in (flowers.artifact, str(flowers.artifact.parent)):
        assert Predictor(flowers.artifact).manifest == service.read_manifest(path)
    with pytest.raises(ArtifactError, match="holds no artifact"):
        service.read_manifest(flowers.artifact.parent.parent)


def test_import_is_light() -> None:
    """Importing the package loads neither NumPy nor ONNX Runtime."""
    code = "import service, service.artifact.storage, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set() == {"numpy", "onnxruntime", "orjson"} & set(result.stdout.split())
