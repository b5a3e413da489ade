"""curl, with its own headers, as a client of each protocol."""

import gzip
import json
import subprocess
from typing import Any

import numpy as np
import pytest

from service.artifact import manifest
from service.runtime.session import Outputs
from tests.clients.conftest import ROWS
from tests.serving import Server
from tests.stored import FLOWERS
from tests.tables import CLASSES

pytestmark = [pytest.mark.clients, pytest.mark.e2e]

NUMBERS: list[list[float]] = ROWS.astype(np.float64).tolist()
JSON_BODY = json.dumps({"instances": NUMBERS}).encode()
CSV_BODY = "".join(",".join(map(str, row)) + "\n" for row in NUMBERS).encode()
FLOAT32_BODY = ROWS.astype("<f4").tobytes()


def curl(server: Server, path: str, body: bytes | None = None, *headers: str) -> bytes:
    """Return the body of the reply to curl; a body is sent under curl's own Content-Type."""
    url = f"http://127.0.0.1:{server.port}{path}"
    command = ["curl", "--silent", "--show-error", url]
    command += [part for header in headers for part in ("--header", header)]
    if body is not None:
        command += ["--data-binary", "@-"]
    return subprocess.run(command, input=body, capture_output=True, check=True).stdout


def curl_json(server: Server, path: str, body: bytes | None = None, *headers: str) -> Any:
    """Return the JSON document of the reply to curl."""
    return json.loads(curl(server, path, body, *headers))


def test_example(server: Server) -> None:
    """The artifact's own example needs no Content-Type."""
    body = (FLOWERS.artifact / manifest.EXAMPLE).read_bytes()
    assert "flowers" == curl_json(server, "/predict", body)["model"]["name"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", JSON_BODY),
        ("text/csv", CSV_BODY),
        ("application/octet-stream", FLOAT32_BODY),
    ],
)
def test_predict(server: Server, expected: Outputs, content_type: str, body: bytes) -> None:
    """POST /predict takes rows as JSON, CSV and bytes, and answers with JSON and bytes."""
    content = f"Content-Type: {content_type}"
    reply = curl_json(server, "/predict", body, content)
    assert [CLASSES[label] for label in expected["label"]] == reply["predictions"]
    raw = curl(server, "/predict", body, content, "Accept: application/octet-stream")
    assert expected["probabilities"].astype("<f4").tobytes() == raw


def test_v2(server: Server, expected: Outputs) -> None:
    """The Open Inference Protocol takes JSON plain, chunked and compressed, and raw bytes."""
    tensor = {"name": "input", "shape": [3, 4], "datatype": "FP32", "data": NUMBERS}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]}).encode()
    path = "/v2/models/flowers/infer"
    for reply in (
        curl_json(server, path, body),
        curl_json(server, "/v2/models/flowers/versions/1/infer", body),
        curl_json(server, path, body, "Transfer-Encoding: chunked"),
        curl_json(server, path, gzip.compress(body), "Content-Encoding: gzip"),
    ):
        assert expected["label"].tolist() == reply["outputs"][0]["data"]
    raw = curl(server, path, FLOAT32_BODY, "Inference-Header-Content-Length: 0")
    arrays = [array.astype(array.dtype.newbyteorder("<")) for array in expected.values()]
    assert raw.endswith(b"}]}" + b"".join(array.tobytes() for array in arrays))


def test_v1(server: Server, expected: Outputs) -> None:
    """KServe's V1 protocol takes rows in both members, and describes the model."""
    rows = curl_json(server, "/v1/models/flowers:predict", JSON_BODY)["predictions"]
    assert expected["label"].tolist() == [row["label"] for row in rows]
    inputs = json.dumps({"inputs": NUMBERS}).encode()
    outputs = curl_json(server, "/v1/models/flowers/versions/1:predict", inputs)["outputs"]
    assert np.array_equal(expected["logits"], np.array(outputs["logits"], np.float32))
    assert curl_json(server, "/v1/models/flowers")["ready"] is True
    metadata = curl_json(server, "/v1/models/flowers/metadata")
    assert "flowers" == metadata["model_spec"]["name"]
    assert 422 == curl_json(server, "/v1/models/flowers:predict", b'{"instances": [[1]]}')["status"]
