"""Runtimes that read sound files and answer wrongly: what only the bound, the golden rows or the NaN rows can see."""

import numpy as np

from export.proof.bound import Float32Array
from export.proof.expected import Weights, task_of
from export.proof.runtimes import Outputs, Runtime
from tests.mutants.subject import DoesNotApplyError, Fault, Mutant, Subject


def rows_rolled(runtime: Runtime, weights: Weights) -> Runtime:
    """Answer every row with its neighbour's answer."""
    return lambda x: {name: np.roll(values, 1, axis=0) for name, values in runtime(x).items()}


def remainder_lost(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute 32 rows at a time, and forget the rest: a loop without its remainder."""

    def run(x: Float32Array) -> Outputs:
        done = len(x) - len(x) % 32 if len(x) > 32 else len(x)
        answers = {name: values.copy() for name, values in runtime(x).items()}
        for values in answers.values():
            values[done:] = 0
        return answers

    return run


def naive_softmax(runtime: Runtime, weights: Weights) -> Runtime:
    """Compute exp(v) / sum exp(v) as it stands: Inf / Inf for large scores."""
    if task_of(weights) == "regression":
        raise DoesNotApplyError

    def run(x: Float32Array) -> Outputs:
        answers = dict(runtime(x))
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(answers["logits"])
            answers["probabilities"] = e / e.sum(axis=1, keepdims=True)
        return answers

    return run


def nan_swallowed(runtime: Runtime, weights: Weights) -> Runtime:
    """Answer 0 where there is no number: max(x, 0) as `x > 0 ? x : 0`."""
    return lambda x: {name: np.nan_to_num(values, nan=0) for name, values in runtime(x).items()}


def nan_spread(runtime: Runtime, weights: Weights) -> Runtime:
    """Let one row that is not finite spoil the others, as a sum over the batch does."""

    def run(x: Float32Array) -> Outputs:
        spoil = np.float32(0) * x.sum(dtype=np.float64)
        return {
            name: values + spoil if values.dtype == np.float32 else values
            for name, values in runtime(x).items()
        }

    return run


FAULTS: dict[str, Fault] = {
    "rows exchanged": rows_rolled,
    "remainder of a batch forgotten": remainder_lost,
    "softmax without its maximum": naive_softmax,
    "NaN swallowed": nan_swallowed,
    "NaN spreads to other rows": nan_spread,
}


def _at(place: str, name: str, fault: Fault) -> Mutant:
    def apply(subject: Subject) -> Subject:
        fault(lambda x: {}, subject.weights)
        return Subject(run=subject.run, files=subject.files, faults={place: fault})

    return Mutant(f"runtime, {place}: {name}", "fault", apply)


MUTANTS = [
    *(
        _at(place, name, fault)
        for place in ("onnxruntime", "torchscript")
        for name, fault in FAULTS.items()
    ),
    _at("serving", "rows exchanged", rows_rolled),
]
