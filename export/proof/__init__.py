"""The proof that model.onnx and model.torchscript.pt compute the trained network."""
