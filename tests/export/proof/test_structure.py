"""Tests of the errors of the structural checks; tests/mutants tests what the checks reject."""

import functools
import re
from typing import Any

import pytest

from export import ProofError
from export.proof.onnx_structure import parse_onnx, prove_onnx
from export.proof.torchscript_structure import prove_torchscript
from export.to_torchscript import load_torchscript
from service.artifact import manifest
from tests.mutants import MUTANTS
from tests.mutants.networks import subject_of
from tests.trained import Trained

MESSAGES = {
    "onnx: one weight off by one ULP": "net.linear1.weight: 1 of 64 values differ from the run's, "
    "the first at [0, 0]: expected np.float32(",
    "onnx: ReLU is Abs": "operator 4: expected ('Relu'",
    "onnx: ReLU dropped": "count of operators: expected 7, found 6",
    "onnx: an operator from another domain": "found ('com.microsoft.Relu'",
    "onnx: opset 18": "opsets: expected [('', 17)], found [('', 18)]",
    "onnx: external data": "data location of net.linear1.weight: expected 0, found 1",
    "onnx: an extra output": "outputs: expected",
    "onnx: metadata": "metadata: expected 0, found 1",
    "onnx: metadata of an operator": "model.onnx: expected the canonical bytes of its graph",
    "onnx: an attribute of another type": 'attributes of Softmax: expected [name: "axis"',
    "onnx: no tensors": "count of initializers: expected 6, found 0",
    "torchscript: one weight off by one ULP": "net.linear1.weight: 1 of 64 values differ",
    "torchscript: ReLU is Abs": "operator 4: expected ('aten::relu', ('gemm',), 'relu')",
    "torchscript: logits and probabilities exchanged": "returned values: expected",
    "torchscript: changed after it was returned": "count of operators: expected 7, found 8",
    "torchscript: changed for batches of 5": "outputs and blocks of prim::If: expected (1, 0)",
    "torchscript: a hook": "hooks: expected [], found [",
    "torchscript: half precision": "type of shift: expected torch.float32, found torch.float16",
}


@pytest.mark.parametrize("mutant", MESSAGES)
def test_difference_is_named(flowers: Trained, mutant: str) -> None:
    """The message states what was expected and found."""
    files = MUTANTS[mutant](subject_of(flowers.run, flowers.artifact)).files
    prove: Any = functools.partial(prove_onnx, files[manifest.MODEL])
    if mutant.startswith("torchscript"):
        prove = functools.partial(prove_torchscript, load_torchscript(files[manifest.TORCHSCRIPT]))
    with pytest.raises(ProofError, match=re.escape(MESSAGES[mutant])):
        prove(flowers.run.weights)


def test_garbage_is_not_onnx() -> None:
    """Bytes that are not an ONNX file raise ProofError."""
    with pytest.raises(ProofError, match=r"model\.onnx: not an ONNX file"):
        parse_onnx(b"garbage")


def test_run_without_tensors_is_rejected(flowers: Trained) -> None:
    """A run without tensors is an error, because no weight would be compared."""
    with pytest.raises(ProofError, match="tensors of the run: expected"):
        prove_torchscript(
            load_torchscript((flowers.artifact / manifest.TORCHSCRIPT).read_bytes()), {}
        )
