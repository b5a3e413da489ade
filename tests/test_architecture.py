"""Dependency directions, imports of a serving process, and sizes of functions and files."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.serving import ROOT

PACKAGES = ("model", "export", "service", "tabular", "cli", "bench", "tests")
TRAINING_NAMES = "torch onnx onnxscript safetensors sklearn matplotlib polars model export"
TRAINING = set(TRAINING_NAMES.split())


def loaded_packages(code: str) -> set[str]:
    """Run code in a new process and return the top-level packages that it imports."""
    command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    modules = subprocess.check_output(command, cwd=ROOT, text=True)
    return {name.split(".")[0] for name in modules.split()}


@pytest.mark.parametrize("module", ["service.web.app", "service.runtime.predictor"])
def test_serving_loads_no_training_package(module: str) -> None:
    """The service imports no training package."""
    assert set() == loaded_packages(f"import {module}") & TRAINING


def test_parent_process_stays_small() -> None:
    """The process that starts the workers does not import flask, onnxruntime or numpy."""
    code = "import service.__main__, service.commands.serve, service.host.supervisor"
    assert set() == loaded_packages(code) & (TRAINING | {"flask", "onnxruntime", "numpy"})


def test_import_contracts() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    process = [sys.executable, "-c", command]
    completed = subprocess.run(process, cwd=ROOT, capture_output=True, text=True)
    assert 0 == completed.returncode, completed.stdout


def sources() -> list[Path]:
    """Return every module of the repository."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def function_lengths() -> dict[str, int]:
    """Return the number of lines of every function, including its docstring, by file and name."""
    return {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_fit_on_a_screen() -> None:
    """No function has more than 80 lines, and at most ten have more than 50."""
    long = {name: lines for name, lines in function_lengths().items() if lines > 50}
    assert {} == {name: lines for name, lines in long.items() if lines > 80}
    assert len(long) <= 10, long


def test_files_hold_one_concept() -> None:
    """No module has more than 350 lines."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {} == {str(path): lines for path, lines in lengths.items() if lines > 350}


def test_folders_are_small() -> None:
    """No folder has more than 14 modules."""
    modules = Counter(path.parent for path in sources() if path.name != "__init__.py")
    assert {} == {str(folder): count for folder, count in modules.items() if count > 14}
