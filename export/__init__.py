"""Turn a run into a proved artifact: ONNX, TorchScript, and the evidence that they are the trained network."""
