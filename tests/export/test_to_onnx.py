"""export.to_onnx: one canonical file that old runtimes read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from export.to_onnx import to_onnx
from model.run import net_from_weights
from service.artifact import manifest
from tests.trained import Trained

EXPORT = """
import sys; sys.path[:0] = sys.argv[1:2]
from pathlib import Path
from model.checkpoint import load, net_of
from export.to_onnx import to_onnx
from export.to_torchscript import to_torchscript
net = net_of(load(Path(sys.argv[2])).weights)
sys.stdout.buffer.write({"onnx": to_onnx, "torchscript": to_torchscript}[sys.argv[3]](net))
"""


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_bytes_are_the_same_in_another_process_and_folder(
    flowers: Trained, tmp_path: Path, kind: str
) -> None:
    """The same run exported by another process, started elsewhere, gives the same bytes."""
    name = {"onnx": manifest.MODEL, "torchscript": manifest.TORCHSCRIPT}[kind]
    root = str(Path(manifest.__file__).parent.parent)
    command = [sys.executable, "-c", EXPORT, root, str(flowers.run.path), kind]
    written = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert (flowers.artifact / name).read_bytes() == written


def test_nothing_but_the_graph(houses: Trained) -> None:
    """Opset 17, IR 8, checked by onnx; no path, no version of any tool, no documentation, no metadata."""
    content = (houses.artifact / manifest.MODEL).read_bytes()
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert (17, 8) == (model.opset_import[0].version, model.ir_version)
    assert "" == model.producer_version + model.doc_string + model.graph.doc_string
    for text in (b"/", b"torch", b".py", b"pkg."):
        assert text not in content


def test_weights_keep_their_names_and_bits(houses: Trained) -> None:
    """The initializers are the tensors of the run, by name and bit for bit."""
    model = onnx.load_model_from_string(to_onnx(net_from_weights(houses.run.weights)))
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert sorted(houses.run.weights) == sorted(found)
    assert all(np.array_equal(houses.run.weights[name], found[name]) for name in found)


def test_another_runtime_agrees(flowers: Trained) -> None:
    """The reference evaluator of onnx gives the labels and, nearly, the logits of the eager network."""
    session = onnx.reference.ReferenceEvaluator(
        onnx.load_model_from_string((flowers.artifact / manifest.MODEL).read_bytes())
    )
    logits, _, label = (
        np.asarray(value) for value in session.run(None, {"input": flowers.run.rows})
    )
    with torch.no_grad():
        expected = net_from_weights(flowers.run.weights)(torch.from_numpy(flowers.run.rows))
    np.testing.assert_allclose(expected[0].numpy(), logits, rtol=1e-5, atol=1e-5)
    assert expected[2].tolist() == label.tolist()
