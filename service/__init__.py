"""Serve an artifact over HTTP. Needs flask, numpy and onnxruntime; never torch, onnx, model or export."""
