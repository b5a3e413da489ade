"""TODO: export.proof.prove."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from export import ProofError
from export.proof.bound import Float32Array
from export.proof.expected import Weights
from export.proof.hard_inputs import hard_inputs
from export.proof.numerical import (
    Comparison,
    check_nonfinite_rows,
    describe_failure,
    rows_changed_by_batch,
    sweep,
)
from export.proof.onnx_structure import prove_onnx
from export.proof.runtimes import (
    SERVING_RUNTIME,
    is_execution_provider,
    open_runtimes,
)
from export.proof.torchscript_structure import prove_torchscript
from export.to_torchscript import load_torchscript
from service.artifact.manifest import Feature

MAX_OUT_OF_RANGE_SHARE = 0.05
"""A sweep with a larger share of rows that may overflow proves too little, and fails."""


def prove(
    files: tuple[bytes, bytes],
    weights: Weights,
    features: Sequence[Feature],
    rows: Float32Array,
    most_out_of_range: float = MAX_OUT_OF_RANGE_SHARE,
) -> dict[str, Any]:
    """Prove that model.onnx and model.torchscript.pt compute the trained network; return the evidence.

    Args:
        files: the bytes of model.onnx and of model.torchscript.pt.
        weights: the tensors of the run.
        features: give the training minimum, median and maximum of every column.
        rows: real rows, (rows, in_features) float32, at least one.
        most_out_of_range: the share of the hard rows that may be so.

    Raises:
        ProofError: a check failed; the message says which, where, expected and found.
    """
    model, script = files
    prove_onnx(model, weights)
    module = load_torchscript(script)
    prove_torchscript(module, weights)
    asked, left_out = open_runtimes(model, module, weights)
    cases = hard_inputs(features, rows)
    comparisons = list(sweep(cases, asked, weights))
    if failed := [comparison for comparison in comparisons if not comparison.passed]:
        raise ProofError(describe_failure(failed[0]))
    # The batches repeat the real rows, which are counted once.
    counted = {case.name: len(case.rows) for case in cases if not case.repeated}
    total = sum(counted.values())
    beyond = {c.case: c.rows_out_of_range for c in comparisons if c.case in counted}
    out_of_range = sum(beyond.values())
    if out_of_range > most_out_of_range * total:
        raise ProofError(
            f"hard inputs: expected at most {most_out_of_range:.0%} of rows out of float32's range, "
            f"found {out_of_range / total:.1%}: scale the columns of the data"
        )
    swallowed = [
        warning
        for name, runtime in asked.items()
        for warning in check_nonfinite_rows(
            name, runtime, rows, nan_decides=not is_execution_provider(name)
        )
    ]
    served = [replace(c, runtime="") for c in comparisons if c.runtime == SERVING_RUNTIME]
    alike = {
        name
        for name in set(asked) - {SERVING_RUNTIME}
        if served == [replace(c, runtime="") for c in comparisons if c.runtime == name]
    }
    return {
        "structure": "every tensor bit-identical, every operator and wire as expected",
        "rows": total - out_of_range,
        "rows_out_of_range": out_of_range,
        "runtimes": {
            name: {
                **worst_figures([c for c in comparisons if c.runtime == name]),
                "batch_rows": len(rows),
                "batch_rows_changed": rows_changed_by_batch(runtime, rows),
                "every_figure_as": SERVING_RUNTIME if name in alike else None,
            }
            for name, runtime in asked.items()
        },
        "left_out": left_out,
        "warnings": swallowed
        + [
            f"{c.runtime}, {c.case}: {c.output}: {c.max_error_over_probable_bound:.3g} times the probable bound"
            for c in comparisons
            if c.max_error_over_probable_bound > 1
        ],
        "comparisons": [asdict(c) for c in comparisons if c.runtime not in alike],
        "host": host_description(),
    }


def worst_figures(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the worst figures of one runtime over all cases and outputs."""
    largest = (
        "max_error_over_bound",
        "max_error_over_probable_bound",
        "max_ulps",
        "largest_margin",
    )
    worst: dict[str, Any] = {name: max(getattr(c, name) for c in comparisons) for name in largest}
    return worst | {"label_disagreements": sum(c.label_disagreements for c in comparisons)}


def host_description() -> dict[str, str]:
    """Say on what the figures were found."""
    cpus = Path("/proc/cpuinfo")
    models = (
        [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        if cpus.exists()
        else []
    )
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
