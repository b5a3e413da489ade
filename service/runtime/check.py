"""The checks of the command `check`, which need neither torch nor onnx.

For model.torchscript.pt they check only the hash; `python -m export verify` checks its contents.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.artifact import manifest, storage, strict_json
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import scan_onnx
from service.artifact.weights import read_tensors
from service.runtime.predictor import Predictor
from service.runtime.session import Rows

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file (https://www.w3.org/TR/png/#3PNGsignature)."""


def check_artifact(path: Path) -> Predictor:
    """Check every file of a version folder; raise ArtifactError if a check fails."""
    artifact = storage.read_artifact(path)
    predictor = Predictor(path, expect_digest=artifact.digest)
    initializers = scan_onnx(artifact.files[manifest.MODEL])
    weights = read_tensors(artifact.files[manifest.WEIGHTS])
    for name in sorted(initializers.keys() | weights.keys()):
        if initializers.get(name) != weights.get(name):
            difference = f"the bits of {name} differ from those in {manifest.WEIGHTS}"
            raise ArtifactError(f"{manifest.MODEL}: {difference}")
    try:
        outputs = predictor.predict(_example_rows(predictor))
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise ValueError("the outputs overflow float32")
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{manifest.EXAMPLE}: not a valid request: {error}") from None
    for name in (manifest.CURVES, manifest.PROOF):
        if not artifact.files[name].startswith(PNG_SIGNATURE):
            raise ArtifactError(f"{name}: expected a PNG file, found {artifact.files[name][:8]!r}")
    return predictor


@dataclass(frozen=True)
class _Example:
    """The contents of example.json."""

    instances: tuple[tuple[int | float, ...], ...]


def _example_rows(predictor: Predictor) -> Rows:
    """Return the rows of example.json, or raise ValueError if they do not fit the network."""
    example: _Example = strict_json.decode(strict_json.parse(predictor.example), _Example, "")
    in_features = len(predictor.manifest.features)
    if {len(row) for row in example.instances} != {in_features}:
        raise ValueError(f"instances: expected one or more rows of {in_features} numbers")
    with np.errstate(over="ignore"):
        rows = np.array(example.instances, np.float64).astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("instances: a number overflows float32")
    return rows
