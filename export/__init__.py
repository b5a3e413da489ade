"""Turn a run into a proved artifact: ONNX, TorchScript, and the evidence that they are the trained network."""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # read by onnxruntime at its import, wherever that comes first


class ProofError(Exception):
    """An artifact is not the trained network; the message says what was expected and what was found."""
