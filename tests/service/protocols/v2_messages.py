"""Requests and replies of the Open Inference Protocol as a client writes and reads them."""

import json
from typing import Any

import numpy as np

from service.protocols.messages import BYTES, JSON, Reply, Request
from service.runtime.session import Outputs, Rows

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
ROWS = np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999]], np.float32)
DTYPES = {"FP32": "<f4", "INT64": "<i8"}


def tensor(rows: Rows, *, flat: bool = False) -> dict[str, Any]:
    """Return the input as JSON, nested or flat."""
    wide = rows.astype(np.float64)
    data = (wide.ravel() if flat else wide).tolist()
    return {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": data}


def request(
    document: object, tail: bytes | None = None, content_type: str = JSON, accept: str = ""
) -> Request:
    """Return a request; one with a tail, even an empty one, has the length of its JSON."""
    head = json.dumps(document).encode()
    return Request(head + (tail or b""), content_type, accept, None if tail is None else len(head))


def binary(rows: Rows, **members: Any) -> Request:
    """Return a request whose input follows the JSON as bytes."""
    head = tensor(rows) | {"parameters": {"binary_data_size": rows.nbytes}}
    del head["data"]
    return request({"inputs": [head], **members}, rows.astype("<f4").tobytes(), BYTES)


def outputs(reply: Reply) -> Outputs:
    """Read the outputs of a reply, from its JSON or from the bytes behind it."""
    length = int(dict(reply.headers).get(JSON_LENGTH_HEADER, len(reply.body)))
    document, tail = json.loads(reply.body[:length]), reply.body[length:]
    assert (BYTES if reply.headers else JSON) == reply.content_type
    arrays: Outputs = {}
    for output in document["outputs"]:
        dtype = DTYPES[output["datatype"]]
        if "data" in output:
            assert "parameters" not in output
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, tail = np.frombuffer(tail[:size], dtype), tail[size:]
        arrays[output["name"]] = array.reshape(output["shape"])
    assert b"" == tail
    return arrays


def bits(arrays: Outputs) -> list[tuple[str, tuple[int, ...], str, bytes]]:
    """Return outputs in a form that compares by order, name, shape, data type and every bit."""
    return [(name, array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()]
