"""Prediction requests in each protocol, and the probabilities in its responses."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Raw feature values, (batch, in_features)."""
Probabilities = NDArray[Any]
"""Class probabilities, (batch, classes)."""

JSON = "application/json"
BINARY = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP/1.1 request."""

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def encode(self, port: int) -> bytes:
        """Return the bytes to send to 127.0.0.1:port."""
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Content-Length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Protocol:
    """A way to encode a prediction request and to decode its response."""

    name: str
    request: Callable[[str, Rows], HttpRequest]
    """Function from the model's name and rows to a request."""
    probabilities: Callable[[Mapping[str, str], bytes, int], Probabilities]
    """Function from lower-case response headers, body and number of rows to probabilities."""


def to_json(document: object) -> bytes:
    """Return JSON in which each float32 has the fewest digits that identify it."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _v2_json_request(model: str, rows: Rows) -> HttpRequest:
    tensor = {"name": "input", "datatype": "FP32", "shape": rows.shape, "data": rows.reshape(-1)}
    document = {"inputs": [tensor], "outputs": [{"name": "probabilities"}, {"name": "label"}]}
    return HttpRequest(f"/v2/models/{model}/infer", to_json(document), {"Content-Type": JSON})


def _v2_binary_request(model: str, rows: Rows) -> HttpRequest:
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "input", "datatype": "FP32", "shape": rows.shape, "parameters": size}
    binary = {"binary_data": True}
    outputs = [{"name": name, "parameters": binary} for name in ("probabilities", "label")]
    header = to_json({"inputs": [tensor], "outputs": outputs})
    headers = {"Content-Type": BINARY, HEADER_LENGTH: str(len(header))}
    return HttpRequest(f"/v2/models/{model}/infer", header + rows.tobytes(), headers)


def _v2_json_probabilities(headers: Mapping[str, str], body: bytes, rows: int) -> Probabilities:
    outputs = {output["name"]: output for output in json.loads(body)["outputs"]}
    return np.array(outputs["probabilities"]["data"]).reshape(rows, -1)


def _v2_binary_probabilities(headers: Mapping[str, str], body: bytes, rows: int) -> Probabilities:
    start = int(headers[HEADER_LENGTH.lower()])
    output = json.loads(body[:start])["outputs"][0]
    assert output["name"] == "probabilities"
    end = start + output["parameters"]["binary_data_size"]
    return np.frombuffer(body[start:end], "<f4").reshape(rows, -1)


JSON_HEADERS = {"Content-Type": JSON}
BINARY_HEADERS = {"Content-Type": f"{BINARY}; dtype=float32", "Accept": BINARY}
NATIVE_JSON = Protocol(
    "JSON",
    lambda model, rows: HttpRequest("/predict", to_json({"instances": rows}), JSON_HEADERS),
    lambda headers, body, row_count: np.array(json.loads(body)["probabilities"]),
)
NATIVE_BINARY = Protocol(
    "octet-stream",
    lambda model, rows: HttpRequest("/predict", rows.tobytes(), BINARY_HEADERS),
    lambda headers, body, row_count: np.frombuffer(body, "<f4").reshape(row_count, -1),
)
V2_JSON = Protocol("V2 JSON", _v2_json_request, _v2_json_probabilities)
V2_BINARY = Protocol("V2 binary", _v2_binary_request, _v2_binary_probabilities)
MLFLOW_JSON = Protocol(
    "JSON",
    lambda model, rows: HttpRequest("/invocations", to_json({"inputs": rows}), JSON_HEADERS),
    lambda headers, body, row_count: np.array(json.loads(body)["predictions"]["probabilities"]),
)
