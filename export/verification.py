"""Prove a published artifact again on this machine, from its files alone.

Every file is compared with weights.safetensors and with what follows from manifest.json. An
artifact holds no real rows of the run, so the golden rows take their place.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.card import card
from export.errors import ProofError
from export.golden import example_document, golden_document, golden_rows, json_bytes
from export.proof.bound import INFLATION, Float32Array
from export.proof.expected import Weights, expected_shapes, require_equal, task_of
from export.proof.prove import Proof, prove
from export.to_torchscript import check_code
from export.triton import TRITON_CONFIG, triton_config
from model.run import net_from_weights
from model.table.column_statistics import ColumnStatistics
from service.artifact import manifest, storage, strict_json, weights
from service.artifact.manifest import Manifest
from service.artifact.onnx_scan import scan_onnx
from service.artifact.storage import Artifact
from service.runtime.predictor import Predictor

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk of every PNG (https://www.w3.org/TR/png/)."""


@dataclass(frozen=True)
class Verification:
    """The result of a proof that succeeded."""

    digest: str
    proof: Proof
    """The evidence, with this machine's figures."""


def verify(path: Path) -> Verification:
    """Prove artifacts/<name>/<version> again.

    Raises:
        ArtifactError: the artifact is not complete, or not of the format.
        ProofError: a file is not of the trained network, or the manifest does not describe it.
    """
    artifact = storage.read_artifact(path)
    scan_onnx(artifact.files[manifest.MODEL])  # before a library parses it
    tensors = read_weights(artifact.files[manifest.WEIGHTS])
    check_description(artifact.manifest, tensors)
    check_derived_files(artifact)
    check_golden(artifact.files[manifest.GOLDEN], artifact.manifest, tensors)
    for name in (manifest.CURVES, manifest.PROOF):
        check_picture(name, artifact.files[name])
    script = artifact.files[manifest.TORCHSCRIPT]
    check_code(script, net_from_weights(tensors))
    features = artifact.manifest.features
    rows = np.array(golden_document(tensors, golden_rows(features))["input"], np.float32)
    # Golden rows are often extreme. The share out of range was checked on real rows at publication.
    files = artifact.files[manifest.MODEL], script
    proof = prove(files, tensors, features, rows, max_out_of_range_share=1)
    Predictor(path, expect_digest=artifact.digest)  # as the service loads it
    return Verification(artifact.digest, proof)


def read_weights(content: bytes) -> dict[str, Float32Array]:
    """Read the tensors; raise ProofError unless names and shapes fit and all values are finite."""
    try:
        tensors = {
            name: np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
            for name, (shape, data) in weights.read_tensors(content).items()
        }
    except (ValueError, OverflowError) as error:  # NumPy has no array of this shape
        raise ProofError(f"{manifest.WEIGHTS}: {error}") from None
    file, shapes = manifest.WEIGHTS, expected_shapes(task_of(tensors))
    require_equal(f"{file}: tensors", sorted(shapes), sorted(tensors))
    for name, values in tensors.items():
        require_equal(f"{file}: dimensions of {name}", len(shapes[name]), values.ndim)
    widths = (len(tensors[name]) for name in ("shift", "net.linear1.bias", "net.linear2.bias"))
    shapes = expected_shapes(task_of(tensors), *widths)
    for name, values in tensors.items():
        require_equal(f"{file}: shape of {name}", shapes[name], values.shape)
        if not np.isfinite(values).all():
            raise ProofError(f"{file}: {name}: expected finite numbers, found others")
    return tensors


def check_description(described: Manifest, tensors: Weights) -> None:
    """Raise ProofError if the manifest contradicts the tensors, or a comparison of it failed."""
    features, file = described.features, manifest.MANIFEST
    outputs = len(tensors["net.linear2.bias"])
    require_equal(f"{file}: task", task_of(tensors), described.task)
    require_equal(f"{file}: count of features", len(tensors["shift"]), len(features))
    require_equal(f"{file}: count of outputs", outputs, described.out_features)
    rows = np.array([(f.mean, f.std, f.min, f.max, f.median) for f in features])
    statistics = ColumnStatistics(*rows.T)
    for name, values in (("shift", statistics.mean), ("scale", statistics.scale)):
        differ = np.flatnonzero(values.astype(np.float32) != tensors[name])
        if differ.size:
            column = features[differ[0]].name
            raise ProofError(f"{file}: the mean and std of {column!r} are not those of its {name}")
    for comparison in _read_proof(described).comparisons:
        if comparison.passed is not True:
            raise ProofError(f"{file}: proof: states a comparison that failed: {comparison.case}")


def check_derived_files(artifact: Artifact) -> None:
    """Raise ProofError unless manifest, card, example and config.pbtxt follow from the manifest."""
    described, file = artifact.manifest, manifest.MANIFEST
    try:
        readme = card(described, _read_proof(described))
    except (TypeError, ValueError, AttributeError) as error:
        raise ProofError(f"{file}: proof: cannot be read: {error!r}") from None
    derived = {
        file: described.to_json(),
        manifest.EXAMPLE: example_document(described.features),
        manifest.CARD: readme,
    }
    files = {name: artifact.files[name] for name in derived}
    parent = artifact.path.resolve().parent
    newest = storage.list_versions(parent)[-1:] == [described.version]
    if newest and (parent / TRITON_CONFIG).exists():
        widths = len(described.features), described.out_features
        derived[TRITON_CONFIG] = triton_config(described.name, described.task, *widths)
        files[TRITON_CONFIG] = (parent / TRITON_CONFIG).read_bytes()
    for name, content in derived.items():
        if files[name] != content:
            raise ProofError(f"{name}: expected the bytes that follow from {file}, found others")


def check_golden(content: bytes, described: Manifest, tensors: Weights) -> None:
    """Raise ProofError unless golden.json is the derived one, up to the rounding of float64.

    Machines sum float64 in different orders, which explains less than 2^-20 of a bound.
    """
    expected = golden_document(tensors, golden_rows(described.features))
    try:
        golden = strict_json.parse(content)
        differ = [key for key in ("format_version", "input") if golden[key] != expected[key]]
        for name, values in expected["outputs"].items():
            actual = golden["outputs"][name]
            _take_close_numbers(values, actual)
            differ += [f"{name}: {key}" for key in values if actual[key] != values[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise ProofError(f"{manifest.GOLDEN}: {error!r}") from None
    # Python compares true with 1, and -0.0 with 0.0, as equal, but their bytes differ.
    if content != json_bytes(expected):
        part = (differ or ["its form"])[0]
        raise ProofError(f"{manifest.GOLDEN}: {part} is not what follows from {manifest.WEIGHTS}")


def check_picture(name: str, content: bytes) -> None:
    """Raise ProofError unless a file is a complete PNG."""
    try:
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and others
        raise ProofError(f"{name}: not a complete PNG: {error}") from None
    if not content.endswith(PNG_END):  # Pillow stops before the last checksum
        raise ProofError(f"{name}: not a complete PNG: no IEND chunk at its end")


def _take_close_numbers(expected: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Take over the references and bounds that another machine may have rounded differently."""
    tolerance = (INFLATION - 1) * np.array(expected.get("bound", 0))
    for key in expected.keys() & {"reference", "bound"}:
        numbers, derived = np.array(values[key], float), np.array(expected[key])
        if numbers.shape == derived.shape and (np.abs(numbers - derived) <= tolerance).all():
            expected[key] = numbers.tolist()


def _read_proof(described: Manifest) -> Proof:
    try:
        return Proof.from_members(described.proof)
    except (TypeError, ValueError) as error:
        raise ProofError(f"{manifest.MANIFEST}: proof: cannot be read: {error}") from None
