"""Other runtimes reproduce golden.json with model.onnx.

The first run creates a virtual environment under .peers for each runtime. RUNTIMES_ARTIFACT sets
the artifact (default: the stored classifier).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.artifact import storage
from tests.serving import ROOT
from tests.stored import FLOWERS, HOUSES

pytestmark = [pytest.mark.runtimes, pytest.mark.e2e]

CHOSEN = os.environ.get("RUNTIMES_ARTIFACT")
ARTIFACTS = [Path(CHOSEN)] if CHOSEN else [FLOWERS.artifact, HOUSES.artifact]
ENVIRONMENTS = ROOT / ".peers" / "runtimes"
SCRIPT = Path(__file__).with_name("compare.py")
OLD_ONNXRUNTIMES = ("1.12.1", "1.13.1", "1.14.1", "1.15.0", "1.16.0", "1.17.0", "1.18.0", "1.20.0")
"""Versions to try, oldest first; 1.12 was the first that supports opset 17."""


def environment(name: str, alternatives: list[list[str]]) -> Path:
    """Return an environment's Python; the environment is created with the first usable packages."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    for packages in alternatives:
        if subprocess.run([*install, "--only-binary=:all:", *packages]).returncode == 0:
            complete.write_text(" ".join(packages) + "\n")
            return python
    pytest.fail(f"none of {alternatives} installs into {folder}")


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    ("runtime", "name", "alternatives"),
    [
        (
            "onnxruntime",
            "onnxruntime-oldest",
            [[f"onnxruntime=={version}", "numpy<2"] for version in OLD_ONNXRUNTIMES],
        ),
        ("onnxruntime", "onnxruntime-newest", [["onnxruntime"]]),
        ("onnx.reference", "onnx", [["onnx"]]),
        ("openvino", "openvino", [["openvino"]]),
        ("opencv", "opencv", [["opencv-python-headless"]]),
    ],
)
def test_runtime_reproduces_golden_rows(
    runtime: str,
    name: str,
    alternatives: list[list[str]],
    artifact: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runtime's outputs are within the bounds of golden.json, and its labels are accepted."""
    if (runtime, artifact) == ("openvino", FLOWERS.artifact):
        # Its graph compiler folds (x - shift) * scale into x * scale - shift * scale, which loses
        # digits in the column `year`, whose mean is large compared with its deviation.
        request.applymarker(pytest.mark.xfail(reason="OpenVINO folds the standardisation"))
    python = environment(name, alternatives)
    folder = storage.find_version(artifact).absolute()
    # Use a separate process, because some runtimes crash the interpreter.
    completed = subprocess.run(
        [python, SCRIPT, runtime, folder],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
    )
    assert 0 == completed.returncode, completed.stderr
    figures = json.loads(completed.stdout.splitlines()[-1])
    with capsys.disabled():
        worst = figures["max_error_over_bound"]
        print(f"\n{name} {figures['version']}, {artifact.parent.name}: error / bound {worst:.3g}")
    assert figures["max_error_over_bound"] <= 1
    assert 0 == figures["wrong_labels"]
