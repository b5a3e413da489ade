"""model: the public names, which load torch only when they are used."""

import subprocess
import sys

import pytest

import model
from tests.serving import ROOT


@pytest.mark.parametrize("name", model.__all__)
def test_public_names(name: str) -> None:
    """Each public name is the object of that name in its module, also after the module's import."""
    module = sys.modules[getattr(model, name).__module__]
    assert getattr(module, name) is getattr(model, name)


def test_unknown_name() -> None:
    """Another name is an AttributeError, as in every module."""
    with pytest.raises(AttributeError, match=r"^module 'model' has no attribute 'surprise'$"):
        model.surprise  # noqa: B018 # the access is the thing tested


def test_torch_is_loaded_late() -> None:
    """Neither the package nor its command line imports torch, which takes seconds."""
    command = [sys.executable, "-c", "import model.__main__, sys; print(*sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
