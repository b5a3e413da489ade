"""KServe's client against a server; `make test-clients` installs the client in .peers/kserve."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.runtime.session import Outputs
from tests.clients.conftest import ROWS
from tests.serving import ROOT, Server

PYTHON = ROOT / ".peers" / "kserve" / "bin" / "python"
SCRIPT = Path(__file__).with_name("kserve_client.py")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.e2e,
    pytest.mark.skipif(not PYTHON.exists(), reason="make test-clients installs KServe's client"),
]


@pytest.fixture(scope="module")
def results(server: Server) -> dict[str, Any]:
    """The output of kserve_client.py: results by request name."""
    command = [str(PYTHON), str(SCRIPT), f"http://127.0.0.1:{server.port}", "flowers"]
    rows = json.dumps(ROWS.astype(np.float64).tolist())
    completed = subprocess.run(command, input=rows, capture_output=True, text=True)
    assert 0 == completed.returncode, completed.stderr
    results: dict[str, Any] = json.loads(completed.stdout)
    return results


def test_readiness(results: dict[str, Any]) -> None:
    """The server is live, and the model is ready in both protocols; an unknown model is not."""
    names = ("live", "ready", "model ready", "unknown model ready")
    assert [True, True, [True, True], False] == [results[name] for name in names]


@pytest.mark.parametrize("form", ["v2 json", "v2 binary", "v2 dict"])
def test_v2(results: dict[str, Any], expected: Outputs, form: str) -> None:
    """The requested outputs have the artifact's bits, in JSON and as binary tensors."""
    reply = results[form]
    assert ("a-1", "flowers") == (reply["id"], reply["model"])
    assert ["label", "probabilities"] == list(reply["outputs"])
    for name, values in reply["outputs"].items():
        assert np.array_equal(expected[name], np.array(values, expected[name].dtype))


def test_v1(results: dict[str, Any], expected: Outputs) -> None:
    """The V1 outputs have the artifact's bits, both as rows and as columns."""
    rows, columns = results["v1 instances"]["predictions"], results["v1 inputs"]["outputs"]
    for name, array in expected.items():
        assert np.array_equal(array, np.array([row[name] for row in rows], array.dtype))
        assert np.array_equal(array, np.array(columns[name], array.dtype))


@pytest.mark.parametrize(
    ("request_name", "place", "status"),
    [
        ("v2 rejected", "inputs[0].shape: ", "'422 "),
        ("v1 rejected", "instances[0]: ", "'422 "),
        ("unknown model", "", "'404 "),
    ],
)
def test_errors(results: dict[str, Any], request_name: str, place: str, status: str) -> None:
    """The client's error contains the status and begins with the place of the service's error."""
    assert results[request_name].startswith(place)
    assert status in results[request_name]


def test_documented_client(server: Server) -> None:
    """The client's code in docs/http.md receives a reply."""
    text = (ROOT / "docs" / "http.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = [block for block in blocks if "kserve" in block]
    for old, new in (
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{server.port}"),
        ("* 64", "* 4"),
        ('"digits"', '"flowers"'),
    ):
        code = code.replace(old, new)
    completed = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True)
    assert completed.stdout.startswith("{'predictions': [{'logits': ["), completed.stderr
