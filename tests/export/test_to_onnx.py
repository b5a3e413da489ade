"""Tests of export.to_onnx: the file is minimal, and another runtime gives the same outputs."""

import numpy as np
import onnx
import onnx.reference
import torch

from model.run import net_from_weights
from service.artifact import manifest
from tests.trained import Trained


def test_file_holds_only_the_graph(houses: Trained) -> None:
    """The file passes onnx.checker with opset 17 and IR 8, and has no paths or tool versions."""
    content = (houses.artifact / manifest.MODEL).read_bytes()
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert (17, 8) == (model.opset_import[0].version, model.ir_version)
    assert "" == model.producer_version + model.doc_string + model.graph.doc_string
    for text in (b"/", b"torch", b".py", b"pkg."):
        assert text not in content


def test_another_runtime_agrees(flowers: Trained) -> None:
    """The reference evaluator of onnx gives the labels and logits of the eager network."""
    session = onnx.reference.ReferenceEvaluator(str(flowers.artifact / manifest.MODEL))
    logits, _, label = map(np.asarray, session.run(None, {"input": flowers.run.rows}))
    with torch.no_grad():
        expected = net_from_weights(flowers.run.weights)(torch.from_numpy(flowers.run.rows))
    np.testing.assert_allclose(expected[0].numpy(), logits, rtol=1e-5, atol=1e-5)
    assert expected[2].tolist() == label.tolist()
