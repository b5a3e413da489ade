"""Whether an artifact is whole and does here what it says: what can be said of it without torch and onnx.

Of model.torchscript.pt that is its hash alone: `python -m export verify` reads it.
"""

import sys
from pathlib import Path

from service import manifest
from service.dialects import native
from service.manifest import ArtifactError
from service.onnx_scan import scan
from service.payload import BadInput
from service.png import check_png
from service.predictor import Predictor
from service.served import Served
from service.weights import tensors
from service.wire import JSON, Request


def check(path: Path) -> Predictor:
    """Check hashes, manifest, golden rows, tensors, example and pictures of artifacts/<name>/<version>.

    Raises:
        ArtifactError: something does not hold.
    """
    artifact = manifest.read(path)
    predictor = Predictor(path, expect_digest=artifact.digest)
    held, stored = scan(artifact.files[manifest.MODEL]), tensors(artifact.files[manifest.WEIGHTS])
    for name in sorted(held.keys() | stored.keys()):
        if held.get(name) != stored.get(name):
            raise ArtifactError(f"{manifest.MODEL}: {name} is not, bit for bit, that of {manifest.WEIGHTS}")
    try:
        native.answer(Request(predictor.example, JSON), Served(predictor, predictor.predict, sys.maxsize))
    except BadInput as error:
        raise ArtifactError(f"{manifest.EXAMPLE}: no request that works: {error}") from None
    for name in (manifest.CURVES, manifest.PROOF):
        check_png(name, artifact.files[name])
    return predictor
