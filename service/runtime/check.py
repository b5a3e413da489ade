"""Whether an artifact is whole and does here what it says: what can be said of it without torch and onnx.

Of model.torchscript.pt that is its hash alone: `python -m export verify` reads it.
"""

import sys
from pathlib import Path

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import scan_onnx
from service.artifact.weights import read_tensors
from service.errors import BadInput
from service.png import check_png
from service.protocols import native
from service.protocols.messages import JSON, Request
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel


def check_artifact(path: Path) -> Predictor:
    """Check hashes, manifest, golden rows, tensors, example and pictures of artifacts/<name>/<version>.

    Raises:
        ArtifactError: something does not hold.
    """
    artifact = storage.read_artifact(path)
    predictor = Predictor(path, expect_digest=artifact.digest)
    held, stored = (
        scan_onnx(artifact.files[manifest.MODEL]),
        read_tensors(artifact.files[manifest.WEIGHTS]),
    )
    for name in sorted(held.keys() | stored.keys()):
        if held.get(name) != stored.get(name):
            raise ArtifactError(
                f"{manifest.MODEL}: {name} is not, bit for bit, that of {manifest.WEIGHTS}"
            )
    try:
        native.answer(
            Request(predictor.example, JSON), ServedModel(predictor, predictor.predict, sys.maxsize)
        )
    except BadInput as error:
        raise ArtifactError(f"{manifest.EXAMPLE}: no request that works: {error}") from None
    for name in (manifest.CURVES, manifest.PROOF):
        check_png(name, artifact.files[name])
    return predictor
