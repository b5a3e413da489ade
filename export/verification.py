"""Prove a published artifact again on this machine; only its own files are needed.

Every file is compared with weights.safetensors and manifest.json. The runtimes are tested on the
golden rows, because an artifact holds no training data.
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

PNG_END_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"
"""Last bytes of every PNG file (https://www.w3.org/TR/png/)."""


@dataclass(frozen=True)
class Verification:
    """Results of a successful proof."""

    digest: str
    proof: Proof


def verify(path: Path) -> Verification:
    """Prove the artifact in a folder artifacts/<name>/<version> again.

    Raises:
        ArtifactError: the artifact is incomplete, or violates the format.
        ProofError: the files do not match each other, or a runtime does not match the network.
    """
    artifact = storage.read_artifact(path)
    scan_onnx(artifact.files[manifest.MODEL])  # No library may parse an unscanned file.
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
    # Many golden rows are extreme, so the share out of range is limited only during export.
    files = artifact.files[manifest.MODEL], script
    proof = prove(files, tensors, features, rows, max_out_of_range_share=1)
    Predictor(path, expect_digest=artifact.digest)  # The service must be able to load it.
    return Verification(artifact.digest, proof)


def read_weights(content: bytes) -> dict[str, Float32Array]:
    """Return the tensors; raise ProofError for wrong names, wrong shapes, NaN or infinities."""
    try:
        tensors = {
            name: np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
            for name, (shape, data) in weights.read_tensors(content).items()
        }
    except (ValueError, OverflowError) as error:  # NumPy cannot create an array of this shape.
        raise ProofError(f"{manifest.WEIGHTS}: {error}") from None
    file, task = manifest.WEIGHTS, task_of(tensors)
    require_equal(f"{file}: tensors", sorted(expected_shapes(task)), sorted(tensors))
    widths = (tensors[name].size for name in ("shift", "net.linear1.bias", "net.linear2.bias"))
    shapes = expected_shapes(task, *widths)
    for name, values in tensors.items():
        require_equal(f"{file}: shape of {name}", shapes[name], values.shape)
        if not np.isfinite(values).all():
            raise ProofError(f"{file}: {name}: expected finite numbers, found NaN or infinities")
    return tensors


def check_description(description: Manifest, tensors: Weights) -> None:
    """Raise ProofError if the manifest contradicts the tensors or records a failed comparison."""
    features, file = description.features, manifest.MANIFEST
    outputs = len(tensors["net.linear2.bias"])
    require_equal(f"{file}: task", task_of(tensors), description.task)
    require_equal(f"{file}: count of features", len(tensors["shift"]), len(features))
    require_equal(f"{file}: count of outputs", outputs, description.out_features)
    rows = np.array([(f.mean, f.std, f.min, f.max, f.median) for f in features])
    statistics = ColumnStatistics(*rows.T)
    for name, values in (("shift", statistics.mean), ("scale", statistics.scale)):
        for feature, value, expected in zip(features, values, tensors[name], strict=True):
            if np.float32(value) != expected:
                raise ProofError(f"{file}: mean and std of {feature.name!r} do not match {name}")
    for comparison in Proof.from_members(description.proof).comparisons:
        if comparison.passed is not True:
            raise ProofError(f"{file}: proof: a comparison failed: {comparison.case}")


def check_derived_files(artifact: Artifact) -> None:
    """Raise ProofError unless the files derived from the manifest have the expected bytes."""
    description, file = artifact.manifest, manifest.MANIFEST
    try:
        readme = card(description, Proof.from_members(description.proof))
    except (TypeError, ValueError) as error:
        raise ProofError(f"{file}: proof: cannot be read: {error!r}") from None
    derived = {
        file: description.to_json(),
        manifest.EXAMPLE: example_document(description.features),
        manifest.CARD: readme,
    }
    files = {name: artifact.files[name] for name in derived}
    parent = artifact.path.resolve().parent
    is_newest = storage.list_versions(parent)[-1:] == [description.version]
    if is_newest and (parent / TRITON_CONFIG).exists():
        widths = len(description.features), description.out_features
        derived[TRITON_CONFIG] = triton_config(description.name, description.task, *widths)
        files[TRITON_CONFIG] = (parent / TRITON_CONFIG).read_bytes()
    for name, content in derived.items():
        if files[name] != content:
            raise ProofError(f"{name}: expected the bytes derived from {file}, found others")


def check_golden(content: bytes, description: Manifest, tensors: Weights) -> None:
    """Raise ProofError unless golden.json equals the one derived from the weights, up to rounding.

    Machines sum float64 in different orders; the difference is less than 2^-20 of a bound.
    """
    expected = golden_document(tensors, golden_rows(description.features))
    try:
        golden = strict_json.parse(content)
        differences = [key for key in ("format_version", "input") if golden[key] != expected[key]]
        for name, values in expected["outputs"].items():
            actual = golden["outputs"][name]
            _accept_close_numbers(values, actual)
            differences += [f"{name}: {key}" for key in values if actual[key] != values[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise ProofError(f"{manifest.GOLDEN}: cannot be read: {error!r}") from None
    # Python treats true and 1, and -0.0 and 0.0, as equal, but their bytes differ.
    if content != json_bytes(expected):
        difference = (differences or ["encoding"])[0]
        raise ProofError(f"{manifest.GOLDEN}: {difference} does not match {manifest.WEIGHTS}")


def check_picture(name: str, content: bytes) -> None:
    """Raise ProofError unless a file is a complete PNG."""
    try:
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()
    except Exception as error:  # The exceptions of Pillow have no common base class.
        raise ProofError(f"{name}: not a complete PNG: {error}") from None
    if not content.endswith(PNG_END_CHUNK):  # Pillow does not read the last checksum.
        raise ProofError(f"{name}: not a complete PNG: no IEND chunk at its end")


def _accept_close_numbers(expected: dict[str, Any], actual: Mapping[str, Any]) -> None:
    """Replace expected references and bounds by actual values that differ only by rounding."""
    tolerance = (INFLATION - 1) * np.array(expected.get("bound", 0))
    for key in expected.keys() & {"reference", "bound"}:
        numbers, derived = np.array(actual[key], float), np.array(expected[key])
        if numbers.shape == derived.shape and (np.abs(numbers - derived) <= tolerance).all():
            expected[key] = numbers.tolist()
