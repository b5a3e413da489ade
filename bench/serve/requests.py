"""How each protocol asks for predictions of rows, and where its answer holds the probabilities."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""(rows, in_features)"""
Probabilities = NDArray[Any]
"""(rows, classes)"""

JSON = "application/json"
BYTES = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Question:
    """A request that asks for predictions."""

    path: str
    body: bytes
    headers: Mapping[str, str]

    def raw(self, port: int) -> bytes:
        """Return it as it goes over the wire."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Content-Length: {len(self.body)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Dialect:
    """How to ask, and how to read the answer."""

    name: str
    ask: Callable[[str, Rows], Question]
    """Of the model's name and the rows."""
    read: Callable[[Mapping[str, str], bytes, int], Probabilities]
    """Of the reply's headers, their names in lower case, its body, and the number of rows."""
    binary: bool = False


def dumped(document: object) -> bytes:
    """Return JSON, each float32 with as many digits as it takes."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _ask_v2(model: str, rows: Rows) -> Question:
    tensor = {"name": "input", "datatype": "FP32", "shape": rows.shape, "data": rows.reshape(-1)}
    document = {"inputs": [tensor], "outputs": [{"name": "probabilities"}, {"name": "label"}]}
    return Question(f"/v2/models/{model}/infer", dumped(document), {"Content-Type": JSON})


def _ask_v2_binary(model: str, rows: Rows) -> Question:
    size = {"binary_data_size": rows.nbytes}
    document = {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": rows.shape, "parameters": size}],
        "outputs": [
            {"name": name, "parameters": {"binary_data": True}}
            for name in ("probabilities", "label")
        ],
    }
    head = dumped(document)
    headers = {"Content-Type": BYTES, LENGTH: str(len(head))}
    return Question(f"/v2/models/{model}/infer", head + rows.tobytes(), headers)


def _read_v2(headers: Mapping[str, str], body: bytes, rows: int) -> Probabilities:
    outputs = {output["name"]: output for output in json.loads(body)["outputs"]}
    return np.array(outputs["probabilities"]["data"]).reshape(rows, -1)


def _read_v2_binary(headers: Mapping[str, str], body: bytes, rows: int) -> Probabilities:
    length = int(headers[LENGTH.lower()])
    first = json.loads(body[:length])["outputs"][0]
    assert first["name"] == "probabilities"
    return np.frombuffer(
        body[length : length + first["parameters"]["binary_data_size"]], "<f4"
    ).reshape(rows, -1)


NATIVE = Dialect(
    "JSON",
    lambda model, rows: Question("/predict", dumped({"instances": rows}), {"Content-Type": JSON}),
    lambda headers, body, rows: np.array(json.loads(body)["probabilities"]),
)
OCTETS = Dialect(
    "octet-stream",
    lambda model, rows: Question(
        "/predict", rows.tobytes(), {"Content-Type": BYTES, "Accept": BYTES}
    ),
    lambda headers, body, rows: np.frombuffer(body, "<f4").reshape(rows, -1),
    binary=True,
)
V2 = Dialect("V2 JSON", _ask_v2, _read_v2)
V2_BINARY = Dialect("V2 binary", _ask_v2_binary, _read_v2_binary, binary=True)
MLFLOW = Dialect(
    "JSON",
    lambda model, rows: Question("/invocations", dumped({"inputs": rows}), {"Content-Type": JSON}),
    lambda headers, body, rows: np.array(json.loads(body)["predictions"]["probabilities"]),
)
