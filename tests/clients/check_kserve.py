"""KServe's own client against a real server: `make test-clients` runs this, and makes the environment it needs."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.runtime.predictor import Predictor
from tests.serving import ROOT, free_port, granian, serving
from tests.stored import StoredArtifact

PYTHON = ROOT / ".peers" / "kserve" / "bin" / "python"
SCRIPT = Path(__file__).with_name("kserve_client.py")
ROWS = [[1, 2, 3, 2001], [0.5, -2.5, 0.25, 1999]]


@pytest.fixture(scope="module")
def address(flowers: StoredArtifact) -> Iterator[str]:
    """Where the classifier answers."""
    port = free_port()
    with serving(granian(flowers.artifact, port, "--no-access-log"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def saw(address: str) -> dict[str, Any]:
    """What the client saw of the classifier."""
    command = [str(PYTHON), str(SCRIPT), address, "flowers"]
    done = subprocess.run(command, input=json.dumps(ROWS), capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_readiness(saw: dict[str, Any]) -> None:
    """Alive, ready, the model ready in both protocols, and an unknown one not."""
    assert (True, True, [True, True], False) == tuple(
        saw[key] for key in ("live", "ready", "model ready", "unknown model ready")
    )


@pytest.mark.parametrize("form", ["v2 json", "v2 binary", "v2 dict"])
def test_v2(saw: dict[str, Any], flowers: StoredArtifact, form: str) -> None:
    """The outputs asked for, in JSON and in bytes, are the artifact's, bit for bit."""
    expected = Predictor(flowers.artifact).predict(np.array(ROWS, np.float32))
    outputs = saw[form]["outputs"]
    assert ("a-1", "flowers", ["label", "probabilities"]) == (
        saw[form]["id"],
        saw[form]["model"],
        list(outputs),
    )
    for name in outputs:
        assert np.array_equal(expected[name], np.array(outputs[name], expected[name].dtype))


def test_v1(saw: dict[str, Any], flowers: StoredArtifact) -> None:
    """By row and by output, the answers are the artifact's, bit for bit."""
    expected = Predictor(flowers.artifact).predict(np.array(ROWS, np.float32))
    predictions, outputs = saw["v1 instances"]["predictions"], saw["v1 inputs"]["outputs"]
    for name, array in expected.items():
        assert np.array_equal(array, np.array([row[name] for row in predictions], array.dtype))
        assert np.array_equal(array, np.array(outputs[name], array.dtype))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("v2 refused", "inputs[0].shape: expected [rows, 4], found [2, 3], '422 "),
        ("v1 refused", "instances[0]: expected 4 values, found 3, '422 "),
        ("unknown model", "expected the model flowers, found 'nobody', '404 "),
    ],
)
def test_errors(saw: dict[str, Any], what: str, message: str) -> None:
    """The client's error begins with the service's one line."""
    assert saw[what].startswith(message), saw[what]


def test_documented(address: str) -> None:
    """The client as docs/http.md shows it, with another model, is answered."""
    text = (ROOT / "docs" / "http.md").read_text()
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "kserve" in block
    ]
    code = (
        code.replace("http://127.0.0.1:8000", address)
        .replace("* 64", "* 4")
        .replace('"digits"', '"flowers"')
    )
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("{'predictions': [{'logits': ["), done.stderr
