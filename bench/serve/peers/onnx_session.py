"""The model of every peer: the same file, in the same runtime, on one thread."""

import os

import onnxruntime


def load() -> onnxruntime.InferenceSession:
    """Open the file that BENCH_MODEL names; with its defaults ONNX Runtime would leave the core it is held to."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
    )
