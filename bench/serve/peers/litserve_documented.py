"""LitServe as its documentation shows it: a LitAPI that decodes, predicts and encodes."""

import sys
from typing import Any

import litserve
import numpy as np
import onnx_session
from numpy.typing import NDArray


class Network(litserve.LitAPI):
    """The hooks that LitServe calls for a request."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.session = onnx_session.load()

    def decode_request(self, request: dict[str, Any]) -> NDArray[np.float32]:
        """Return the rows, (batch, in_features)."""
        return np.array(request["instances"], np.float32)

    def predict(self, rows: NDArray[np.float32]) -> list[Any]:
        """Return probabilities and labels."""
        outputs: list[Any] = self.session.run(["probabilities", "label"], {"input": rows})
        return outputs

    def encode_response(self, outputs: list[Any]) -> dict[str, Any]:
        """Return the body of the response."""
        probabilities, labels = outputs
        return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
