"""Compares the outputs of one runtime with golden.json; prints a JSON document.

test_runtimes.py runs `python compare.py RUNTIME FOLDER` in an environment that has only NumPy and
that runtime.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Outputs = dict[str, Any]


def onnxruntime(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Outputs]:
    """Return version and outputs of ONNX Runtime with its default options."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = session.run(list(names), {"input": rows})
    return onnxruntime.__version__, dict(zip(names, outputs, strict=True))


def onnx_reference(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Outputs]:
    """Return version and outputs of the onnx package's reference evaluator."""
    import onnx
    import onnx.reference

    outputs = onnx.reference.ReferenceEvaluator(model).run(list(names), {"input": rows})
    return onnx.__version__, dict(zip(names, outputs, strict=True))


def openvino(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Outputs]:
    """Return version and outputs of OpenVINO in float32, because its default may be bfloat16."""
    import openvino  # type: ignore[import-not-found] # only in the runtime's environment

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled([rows])
    return openvino.__version__, {name: outputs[name] for name in names}


def opencv(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Outputs]:
    """Return version and outputs of OpenCV's dnn module."""
    import cv2  # type: ignore[import-not-found] # only in the runtime's environment

    net = cv2.dnn.readNetFromONNX(model)
    net.setInput(rows, "input")
    return cv2.__version__, dict(zip(names, net.forward(list(names)), strict=True))


RUNTIMES: dict[str, Callable[[str, Any, Sequence[str]], tuple[str, Outputs]]] = {
    "onnxruntime": onnxruntime,
    "onnx.reference": onnx_reference,
    "openvino": openvino,
    "opencv": opencv,
}


def compare(runtime: str, folder: Path) -> dict[str, Any]:
    """Return the largest error relative to golden.json's bounds and the number of wrong labels."""
    golden = json.loads((folder / "golden.json").read_bytes())
    rows = np.array(golden["input"], np.float32)
    version, outputs = RUNTIMES[runtime](str(folder / "model.onnx"), rows, list(golden["outputs"]))
    worst, wrong_labels = 0.0, 0
    for name, expected in golden["outputs"].items():
        if "accepted" in expected:
            labels = np.asarray(outputs[name]).reshape(-1).tolist()
            pairs = zip(labels, expected["accepted"], strict=True)
            wrong_labels += sum(label not in accepted for label, accepted in pairs)
            continue
        reference, bound = np.array(expected["reference"]), np.array(expected["bound"])
        values = np.asarray(outputs[name], np.float64)
        if values.shape != reference.shape:
            raise SystemExit(f"{name}: expected {reference.shape}, found {values.shape}")
        # Count NaN as an infinite error.
        ratio = np.abs(values - reference) / np.maximum(bound, 1e-300)
        worst = max(worst, float(np.nan_to_num(ratio, nan=np.inf).max()))
    return {"version": version, "max_error_over_bound": worst, "wrong_labels": wrong_labels}


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], Path(sys.argv[2]))))
