"""Tests of the public names of model, which import torch only on first use."""

import subprocess
import sys

import pytest

import model
from tests.serving import ROOT


@pytest.mark.parametrize("name", model.__all__)
def test_public_names(name: str) -> None:
    """Each public name of the package is the object that its module defines."""
    module = sys.modules[getattr(model, name).__module__]
    assert getattr(module, name) is getattr(model, name)


def test_unknown_name() -> None:
    """Any other name raises AttributeError."""
    with pytest.raises(AttributeError, match=r"^module 'model' has no attribute 'surprise'$"):
        model.surprise  # noqa: B018 # the test needs the access


def test_torch_is_loaded_late() -> None:
    """Importing the package or its command line does not import torch, which takes seconds."""
    command = [sys.executable, "-c", "import model.__main__, sys; print(*sys.modules)"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "torch" not in process.stdout.split()
