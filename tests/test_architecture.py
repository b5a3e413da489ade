"""The arrows between the rooms, and what serving may load."""

import subprocess
import sys

import pytest

from tests.serving import ROOT

FORBIDDEN = (
    "torch",
    "onnx",
    "onnxscript",
    "safetensors",
    "sklearn",
    "matplotlib",
    "polars",
    "model",
    "export",
)


@pytest.mark.parametrize(
    "module", ["service.web.app", "service.runtime.predictor", "service.commands.serve"]
)
def test_serving_loads_nothing_of_training(module: str) -> None:
    """A process that imports the service has no training package in it."""
    code = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set() == {name.split(".")[0] for name in loaded.stdout.split()} & set(FORBIDDEN)


def test_parent_process_stays_small() -> None:
    """The process that starts the workers imports neither flask nor onnxruntime nor numpy."""
    code = "import service.commands.serve, service.host.granian_adapter, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set() == set(loaded.stdout.split()) & {"flask", "onnxruntime", "numpy"}


def test_import_contracts() -> None:
    """import-linter's contracts of pyproject.toml hold."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    checked = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert 0 == checked.returncode, checked.stdout
