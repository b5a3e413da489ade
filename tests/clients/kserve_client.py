"""KServe's InferenceRESTClient before a running service: prints what it saw as one JSON document.

check_kserve.py starts it with the interpreter of .peers/kserve: python kserve_client.py URL MODEL, rows as JSON on
standard input.
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


async def main(url: str, model: str, rows: list[list[float]]) -> dict[str, Any]:
    """Ask for everything that the client can ask for."""
    async with (
        InferenceRESTClient(RESTConfig(protocol="v2")) as v2,
        InferenceRESTClient(RESTConfig()) as v1,
    ):
        wrong = [row[1:] for row in rows]
        return {
            "live": await v2.is_server_live(url) and await v1.is_server_live(url),
            "ready": await v2.is_server_ready(url),
            "model ready": [await client.is_model_ready(url, model) for client in (v1, v2)],
            "unknown model ready": await v2.is_model_ready(url, "nobody"),
            "v2 json": seen(
                await v2.infer(url, asked(model, rows, binary=False), model_name=model)
            ),
            "v2 binary": seen(
                await v2.infer(url, asked(model, rows, binary=True), model_name=model)
            ),
            "v2 dict": seen(
                await v2.infer(url, asked(model, rows, binary=False).to_rest()[0], model_name=model)
            ),
            "v1 instances": await v1.infer(url, {"instances": rows}, model_name=model),
            "v1 inputs": await v1.infer(url, {"inputs": rows}, model_name=model),
            "v2 refused": await refused(
                v2.infer(url, asked(model, wrong, binary=True), model_name=model)
            ),
            "v1 refused": await refused(v1.infer(url, {"instances": wrong}, model_name=model)),
            "unknown model": await refused(v1.infer(url, {"instances": rows}, model_name="nobody")),
        }


def asked(model: str, rows: list[list[float]], *, binary: bool) -> InferRequest:
    """Make a request, its input and its outputs in JSON or in bytes."""
    x = np.array(rows, np.float32)
    given = InferInput("input", list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=binary)
    outputs = [
        RequestedOutput(name, {"binary_data": binary}) for name in ("label", "probabilities")
    ]
    return InferRequest(model, [given], request_id="a-1", request_outputs=outputs)


def seen(response: InferResponse) -> dict[str, Any]:
    """Return what the client made of a reply."""
    outputs = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


async def refused(asking: Awaitable[object]) -> str:
    """Return the message of the error that a request ends in."""
    try:
        await asking
    except httpx.HTTPStatusError as error:
        return str(error)
    return "answered"


if __name__ == "__main__":
    url, model = sys.argv[1:]
    print(json.dumps(asyncio.run(main(url, model, json.load(sys.stdin)))))
