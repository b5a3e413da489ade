"""The dependency directions between the packages, and what a serving process loads."""

import subprocess
import sys

import pytest

from tests.serving import ROOT

TRAINING = {
    "torch",
    "onnx",
    "onnxscript",
    "safetensors",
    "sklearn",
    "matplotlib",
    "polars",
    "model",
    "export",
}


def loaded_packages(code: str) -> set[str]:
    """Run code in a new process and return the top-level packages that it has loaded."""
    command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["service.web.app", "service.runtime.predictor"])
def test_serving_loads_no_training_package(module: str) -> None:
    """A process that imports the service has no training package in it."""
    assert set() == loaded_packages(f"import {module}") & TRAINING


def test_parent_process_stays_small() -> None:
    """The process that starts the workers imports neither flask nor onnxruntime nor numpy."""
    code = "import service.__main__, service.commands.serve, service.host.supervisor"
    assert set() == loaded_packages(code) & (TRAINING | {"flask", "onnxruntime", "numpy"})


def test_import_contracts() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stdout
