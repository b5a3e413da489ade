"""The same bytes of model.onnx in other runtimes: does each load them and reproduce golden.json?

    python bench/runtimes.py [ARTIFACT] [--peers .peers]

The oldest onnxruntime that knows opset 17 and installs on this Python, the newest, onnx.reference, OpenVINO and
OpenCV's dnn, each in a virtual environment of its own, which is made once. The last line of stdout is one JSON
document; exit code 1 if one does not load the file or does not agree.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OLDEST = (
    "1.12.1",
    "1.13.1",
    "1.14.0",
    "1.14.1",
    "1.15.0",
    "1.16.0",
    "1.17.0",
    "1.18.0",
    "1.19.0",
    "1.20.0",
)
"""Of onnxruntime: 1.12 was the first with opset 17."""
PEERS: dict[str, tuple[str, list[list[str]]]] = {
    "onnxruntime, oldest": (
        "onnxruntime",
        [[f"onnxruntime=={version}", "numpy<2"] for version in OLDEST],
    ),
    "onnxruntime, newest": ("onnxruntime", [["onnxruntime"]]),
    "onnx.reference": ("onnx", [["onnx"]]),
    "OpenVINO": ("openvino", [["openvino"]]),
    "OpenCV dnn": ("opencv", [["opencv-python-headless"]]),
}
"""By peer: who runs it, and what to install, in the order in which it is tried."""

Answers = dict[str, Any]


def onnxruntime(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Answers]:
    """Run ONNX Runtime with its default options."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, dict(
        zip(names, session.run(list(names), {"input": rows}), strict=True)
    )


def onnx(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Answers]:
    """Run the reference evaluator of the onnx package."""
    import onnx
    import onnx.reference

    evaluator = onnx.reference.ReferenceEvaluator(model)
    return onnx.__version__, dict(
        zip(names, evaluator.run(list(names), {"input": rows}), strict=True)
    )


def openvino(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Answers]:
    """Run OpenVINO on the CPU, in float32: by itself it may choose bfloat16."""
    import openvino  # type: ignore[import-not-found] # installed among the peers alone

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([rows])
    return openvino.__version__, {name: found[name] for name in names}


def opencv(model: str, rows: Any, names: Sequence[str]) -> tuple[str, Answers]:
    """Run OpenCV's dnn."""
    import cv2  # type: ignore[import-not-found] # installed among the peers alone

    net = cv2.dnn.readNetFromONNX(model)
    net.setInput(rows, "input")
    return cv2.__version__, dict(zip(names, net.forward(list(names)), strict=True))


RUNNERS: dict[str, Callable[[str, Any, Sequence[str]], tuple[str, Answers]]] = {
    "onnxruntime": onnxruntime,
    "onnx": onnx,
    "openvino": openvino,
    "opencv": opencv,
}


def compare(runner: str, folder: Path) -> dict[str, Any]:
    """Hold one runtime, in this process, to golden.json as docs/artifact.md says; NumPy and the runtime are enough."""
    import numpy as np

    golden = json.loads((folder / "golden.json").read_bytes())
    rows = np.array(golden["input"], np.float32)
    version, answers = RUNNERS[runner](str(folder / "model.onnx"), rows, list(golden["outputs"]))
    worst, agrees = 0.0, True
    for name, stated in golden["outputs"].items():
        if "accepted" in stated:
            labels = np.asarray(answers[name]).reshape(-1).tolist()
            agrees &= all(
                label in accepted
                for label, accepted in zip(labels, stated["accepted"], strict=True)
            )
            continue
        error = np.abs(np.asarray(answers[name], np.float64) - np.array(stated["reference"]))
        bound = np.array(stated["bound"])
        agrees &= error.shape == bound.shape and bool((error <= bound).all())
        worst = max(worst, float((error / np.maximum(bound, 1e-300)).max()))
    return {"version": version, "rows": len(rows), "max_error_over_bound": worst, "agrees": agrees}


def installed(folder: Path, choices: Sequence[Sequence[str]]) -> Path:
    """Make a virtual environment with the first choice that installs, once; return its Python."""
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    for packages in choices:
        install = [
            str(python),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--only-binary=:all:",
        ]
        if subprocess.run([*install, *packages], stderr=subprocess.DEVNULL).returncode == 0:
            (folder / "complete").write_text(" ".join(packages) + "\n")
            return python
    raise SystemExit(f"{folder}: none of {choices} installs here")


def ask(name: str, folder: Path, peers: Path) -> Mapping[str, Any]:
    """Run one peer in its own environment and process: some end in a crash."""
    runner, choices = PEERS[name]
    python = installed(
        peers / "".join(letter if letter.isalnum() else "-" for letter in name), choices
    )
    ended = subprocess.run(
        [python, __file__, str(folder), "--run", runner],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"])[-1]
        return {
            "version": None,
            "rows": 0,
            "max_error_over_bound": None,
            "agrees": False,
            "error": reason,
        }
    found: Mapping[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a line per runtime."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", nargs="?", type=Path, default=Path("artifacts/digits"))
    parser.add_argument("--peers", type=Path, default=Path(".peers"))
    parser.add_argument("--run", choices=sorted(RUNNERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(compare(arguments.run, arguments.artifact)))
        return
    from service.artifact import storage  # a peer's environment has no such package

    folder = storage.find_version(arguments.artifact).absolute()
    found = {name: ask(name, folder, arguments.peers.absolute()) for name in PEERS}
    for name, figures in found.items():
        said = "agrees" if figures["agrees"] else f"DOES NOT AGREE {figures.get('error', '')}"
        worst = figures["max_error_over_bound"]
        share = "-" if worst is None else f"{worst:.3g}"
        print(f"{name:<20} {(figures['version'] or '-')[:24]:<24} {share:>10} of the bound  {said}")
    print(json.dumps({"artifact": str(arguments.artifact), "runtimes": found}))
    sys.exit(not all(figures["agrees"] for figures in found.values()))


if __name__ == "__main__":
    main()
