"""Turn a run into a proved artifact: ONNX, TorchScript, and the evidence that they are the trained network."""


class ProofError(Exception):
    """An artifact is not the trained network; the message says what was expected and what was found."""
