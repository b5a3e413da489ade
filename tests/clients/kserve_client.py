"""Calls a server with KServe's InferenceRESTClient, and prints the results as one JSON document.

test_kserve.py runs it with the interpreter of .peers/kserve as `python kserve_client.py URL MODEL`
and passes the rows as JSON on standard input.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput

Matrix = list[list[float]]


async def main(url: str, model: str, rows: Matrix) -> dict[str, Any]:
    """Send each type of request that the client supports; return the results by name."""
    wrong = [row[1:] for row in rows]
    async with (
        InferenceRESTClient(RESTConfig(protocol="v2")) as v2,
        InferenceRESTClient(RESTConfig()) as v1,
    ):

        def infer(request: Any) -> Any:
            return v2.infer(url, request, model_name=model)

        def predict(member: str, rows: Matrix, name: str = model) -> Any:
            return v1.infer(url, {member: rows}, model_name=name)

        document = request(model, rows, binary=False).to_rest()[0]
        return {
            "live": await v2.is_server_live(url) and await v1.is_server_live(url),
            "ready": await v2.is_server_ready(url),
            "model ready": [await client.is_model_ready(url, model) for client in (v1, v2)],
            "unknown model ready": await v2.is_model_ready(url, "unknown"),
            "v2 json": result(await infer(request(model, rows, binary=False))),
            "v2 binary": result(await infer(request(model, rows, binary=True))),
            "v2 dict": result(await infer(document)),
            "v1 instances": await predict("instances", rows),
            "v1 inputs": await predict("inputs", rows),
            "v2 rejected": await error(infer(request(model, wrong, binary=True))),
            "v1 rejected": await error(predict("instances", wrong)),
            "unknown model": await error(predict("instances", rows, "unknown")),
        }


def request(model: str, rows: Matrix, *, binary: bool) -> InferRequest:
    """Return a V2 request whose input and outputs are JSON or binary tensors."""
    x = np.array(rows, np.float32)
    tensor = InferInput("input", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    names = ("label", "probabilities")
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in names]
    return InferRequest(model, [tensor], request_id="a-1", request_outputs=outputs)


def result(response: InferResponse) -> dict[str, Any]:
    """Return the id, model and outputs of a reply."""
    outputs = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


async def error(request: Awaitable[object]) -> str:
    """Return the message of a request's error."""
    try:
        await request
    except httpx.HTTPStatusError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    url, model = sys.argv[1:]
    print(json.dumps(asyncio.run(main(url, model, json.load(sys.stdin)))))
