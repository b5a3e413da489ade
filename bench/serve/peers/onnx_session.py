"""The ONNX Runtime session that every peer uses."""

import os

import onnxruntime


def load() -> onnxruntime.InferenceSession:
    """Load $BENCH_MODEL to run on one thread; the default thread pool would use other cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
    )
