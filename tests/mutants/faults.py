"""Runtimes that compute wrong outputs from correct files; only numerical checks detect them."""

import dataclasses

import numpy as np

from export.proof.bound import Float32Array
from export.proof.expected import Weights, task_of
from export.proof.runtimes import Outputs, Runtime
from tests.mutants.subject import DoesNotApplyError, Fault, Mutant, Subject


def exchange_rows(runtime: Runtime, weights: Weights) -> Runtime:
    """Return the outputs of the previous row for every row."""
    return lambda x: {name: np.roll(values, 1, axis=0) for name, values in runtime(x).items()}


def forget_remainder(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute only full blocks of 32 rows, as a vectorised loop without a remainder loop does."""

    def run(x: Float32Array) -> Outputs:
        stop = len(x) - len(x) % 32 if len(x) > 32 else len(x)
        outputs = {name: values.copy() for name, values in runtime(x).items()}
        for values in outputs.values():
            values[stop:] = 0
        return outputs

    return run


def overflow_softmax(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute softmax without subtracting the maximum, which gives Inf / Inf = NaN."""
    if task_of(weights) == "regression":
        raise DoesNotApplyError

    def run(x: Float32Array) -> Outputs:
        outputs = dict(runtime(x))
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(outputs["logits"])
            outputs["probabilities"] = e / e.sum(axis=1, keepdims=True)
        return outputs

    return run


def swallow_nan(runtime: Runtime, weights: Weights) -> Runtime:
    """Return 0 instead of NaN, as a ReLU written `x > 0 ? x : 0` does."""
    return lambda x: {name: np.nan_to_num(values, nan=0) for name, values in runtime(x).items()}


def spread_nan(runtime: Runtime, weights: Weights) -> Runtime:
    """Let a non-finite row change all other rows, as a sum over the batch does."""

    def run(x: Float32Array) -> Outputs:
        spoil = np.float32(0) * x.sum(dtype=np.float64)
        return {
            name: values + spoil if values.dtype == np.float32 else values
            for name, values in runtime(x).items()
        }

    return run


FAULTS: dict[str, Fault] = {
    "rows exchanged": exchange_rows,
    "remainder of a batch forgotten": forget_remainder,
    "softmax without its maximum": overflow_softmax,
    "NaN swallowed": swallow_nan,
    "NaN spreads to other rows": spread_nan,
}


def _in(runtime: str, name: str) -> Mutant:
    def apply(subject: Subject) -> Subject:
        FAULTS[name](lambda x: {}, subject.weights)  # may raise DoesNotApplyError
        return dataclasses.replace(subject, faults={runtime: FAULTS[name]})

    return Mutant(f"runtime, {runtime}: {name}", "fault", apply)


MUTANTS = [
    *(_in(runtime, name) for runtime in ("onnxruntime", "torchscript") for name in FAULTS),
    _in("serving", "rows exchanged"),
]
