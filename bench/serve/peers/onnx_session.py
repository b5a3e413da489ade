"""The model of every peer: the same file, in the same runtime, with one thread."""

import os

import onnxruntime


def load() -> onnxruntime.InferenceSession:
    """Load the file that BENCH_MODEL names; ONNX Runtime's default threads would leave the core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
    )
