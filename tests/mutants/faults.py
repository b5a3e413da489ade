"""Runtimes that read sound files and answer wrongly: only the numerical checks can see them."""

import dataclasses

import numpy as np

from export.proof.bound import Float32Array
from export.proof.expected import Weights, task_of
from export.proof.runtimes import Outputs, Runtime
from tests.mutants.subject import DoesNotApplyError, Fault, Mutant, Subject


def exchange_rows(runtime: Runtime, weights: Weights) -> Runtime:
    """Answer every row with its neighbour's answer."""
    return lambda x: {name: np.roll(values, 1, axis=0) for name, values in runtime(x).items()}


def forget_remainder(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute 32 rows at a time and forget the rest, as a loop without its remainder does."""

    def run(x: Float32Array) -> Outputs:
        done = len(x) - len(x) % 32 if len(x) > 32 else len(x)
        answers = {name: values.copy() for name, values in runtime(x).items()}
        for values in answers.values():
            values[done:] = 0
        return answers

    return run


def overflow_softmax(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute exp(v) / sum exp(v) without subtracting the maximum: Inf / Inf for large logits."""
    if task_of(weights) == "regression":
        raise DoesNotApplyError

    def run(x: Float32Array) -> Outputs:
        answers = dict(runtime(x))
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(answers["logits"])
            answers["probabilities"] = e / e.sum(axis=1, keepdims=True)
        return answers

    return run


def swallow_nan(runtime: Runtime, weights: Weights) -> Runtime:
    """Answer 0 instead of NaN, as a ReLU written `x > 0 ? x : 0` does."""
    return lambda x: {name: np.nan_to_num(values, nan=0) for name, values in runtime(x).items()}


def spread_nan(runtime: Runtime, weights: Weights) -> Runtime:
    """Let one row that is not finite change the others, as a sum over the batch does."""

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
        FAULTS[name](lambda x: {}, subject.weights)  # raises where it does not apply
        return dataclasses.replace(subject, faults={runtime: FAULTS[name]})

    return Mutant(f"runtime, {runtime}: {name}", "fault", apply)


MUTANTS = [
    *(_in(runtime, name) for runtime in ("onnxruntime", "torchscript") for name in FAULTS),
    _in("serving", "rows exchanged"),
]
