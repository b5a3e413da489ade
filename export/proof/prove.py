"""The proof of an artifact: the structure of its files, then every runtime on the hard inputs."""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from export.errors import ProofError
from export.proof import numerical
from export.proof.bound import Float32Array
from export.proof.expected import Weights
from export.proof.hard_inputs import Case, hard_inputs
from export.proof.numerical import Comparison
from export.proof.onnx_structure import prove_onnx
from export.proof.runtimes import SERVING_RUNTIME, Runtime, open_runtimes
from export.proof.torchscript_structure import prove_torchscript
from export.to_torchscript import load_torchscript
from service.artifact.manifest import MANIFEST, Feature

MAX_OUT_OF_RANGE_SHARE = 0.05
"""Maximum share of hard rows that may overflow float32, because no bound holds for such rows."""
MAXIMA = ("max_error_over_bound", "max_error_over_probable_bound", "max_ulps", "largest_margin")
"""Fields of RuntimeFigures that are the maximum over the comparisons of a runtime."""


@dataclass(frozen=True)
class RuntimeFigures:
    """The largest errors of one runtime over all cases and outputs."""

    max_error_over_bound: float
    max_error_over_probable_bound: float
    max_ulps: float
    largest_margin: float
    label_disagreements: int
    batch_rows: int
    """Number of real rows evaluated in one batch and one by one."""
    batch_rows_changed: int
    """Number of those rows for which the two outputs differ in any bit."""
    every_figure_as: str | None
    """Runtime whose equal comparisons are stored in place of its own; None if there is none."""


@dataclass(frozen=True)
class Proof:
    """The results of the checks; stored in manifest.json under `proof`."""

    structure: str
    rows: int
    """Number of hard rows that cannot overflow float32."""
    rows_out_of_range: int
    runtimes: Mapping[str, RuntimeFigures]
    left_out: Mapping[str, str]
    """Execution providers that were not evaluated, each with the reason."""
    warnings: Sequence[str]
    comparisons: Sequence[Comparison]
    host: Mapping[str, str]
    """CPU, operating system and library versions of the machine that ran the checks."""

    def to_members(self) -> dict[str, Any]:
        """Return the object to store in manifest.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> "Proof":
        """Read the object that to_members returned; raise ProofError if members do not match."""
        try:
            return replace(
                cls(**members),
                runtimes={name: RuntimeFigures(**v) for name, v in members["runtimes"].items()},
                comparisons=[Comparison(**value) for value in members["comparisons"]],
            )
        except (TypeError, AttributeError) as error:
            raise ProofError(f"{MANIFEST}: proof: cannot be read: {error}") from None


def prove(
    files: tuple[bytes, bytes],
    weights: Weights,
    features: Sequence[Feature],
    rows: Float32Array,
    max_out_of_range_share: float = MAX_OUT_OF_RANGE_SHARE,
) -> Proof:
    """Prove that model.onnx and model.torchscript.pt compute the trained network.

    Args:
        files: bytes of model.onnx and of model.torchscript.pt.
        weights: tensors of the run.
        features: input columns, with their training minimum and maximum.
        rows: real rows, (rows, in_features) float32, at least one.
        max_out_of_range_share: maximum share of hard rows that may overflow float32.

    Raises:
        ProofError: a check failed; the message names the check, the expected and the actual value.
    """
    model, script = files
    prove_onnx(model, weights)
    module = load_torchscript(script)
    prove_torchscript(module, weights)
    runtimes, left_out = open_runtimes(model, module, weights)
    cases = hard_inputs(features, rows)
    comparisons = list(numerical.sweep(cases, runtimes, weights))
    for comparison in comparisons:
        if not comparison.passed:
            raise ProofError(numerical.describe_failure(comparison))
    in_range, out_of_range = _count_rows(cases, comparisons, max_out_of_range_share)
    warnings = []
    for name, runtime in runtimes.items():
        warnings += numerical.check_nonfinite_rows(name, runtime, rows)
    figures = _figures(runtimes, rows, comparisons)
    return Proof(
        structure="every tensor bit-identical, every operator and wire as expected",
        rows=in_range,
        rows_out_of_range=out_of_range,
        runtimes=figures,
        left_out=left_out,
        warnings=warnings + _probable_bound_warnings(comparisons),
        comparisons=[c for c in comparisons if figures[c.runtime].every_figure_as is None],
        host=_describe_host(),
    )


def _count_rows(
    cases: Sequence[Case], comparisons: Sequence[Comparison], max_share: float
) -> tuple[int, int]:
    """Count the distinct hard rows in and out of range; raise ProofError if too many are out.

    Rows that are chosen to overflow do not count towards the share.
    """
    distinct = [case for case in cases if not case.repeated]
    by_case = {c.case: c.rows_out_of_range for c in comparisons}
    limited = [case for case in distinct if not case.overflowing]
    share = sum(by_case[case.name] for case in limited) / sum(len(case.rows) for case in limited)
    if share > max_share:
        raise ProofError(
            f"hard inputs: expected at most {max_share:.0%} of rows out of float32's range, "
            f"found {share:.1%}: scale the columns of the data"
        )
    out_of_range = sum(by_case[case.name] for case in distinct)
    return sum(len(case.rows) for case in distinct) - out_of_range, out_of_range


def _figures(
    runtimes: Mapping[str, Runtime], rows: Float32Array, comparisons: Sequence[Comparison]
) -> dict[str, RuntimeFigures]:
    serving = [c for c in comparisons if c.runtime == SERVING_RUNTIME]
    figures = {}
    for name, runtime in runtimes.items():
        own = [c for c in comparisons if c.runtime == name]
        is_equal = [replace(c, runtime=SERVING_RUNTIME) for c in own] == serving
        figures[name] = RuntimeFigures(
            **{key: max(getattr(c, key) for c in own) for key in MAXIMA},
            label_disagreements=sum(c.label_disagreements for c in own),
            batch_rows=len(rows),
            batch_rows_changed=numerical.rows_changed_by_batch(runtime, rows),
            every_figure_as=SERVING_RUNTIME if is_equal and name != SERVING_RUNTIME else None,
        )
    return figures


def _probable_bound_warnings(comparisons: Sequence[Comparison]) -> list[str]:
    return [
        f"{c.runtime}, {c.case}: {c.output}: "
        f"{c.max_error_over_probable_bound:.3g} times the probable bound"
        for c in comparisons
        if c.max_error_over_probable_bound > 1
    ]


def _describe_host() -> dict[str, str]:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
