"""A published artifact, proved again on this machine, from its files alone.

Everything is held to weights.safetensors. The run's real rows are not in an artifact: the golden rows stand in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import ProofError
from export.card import card
from export.golden import example_document, golden_document, golden_rows, json_bytes
from export.proof.bound import INFLATION, Float32Array
from export.proof.expected import expected_names, task_of
from export.proof.prove import prove
from export.to_torchscript import check_code
from export.triton import TRITON_CONFIG, triton_config
from model.run import net_from_weights
from model.table.column_statistics import ColumnStatistics
from service.artifact import manifest, storage, strict_json, weights
from service.artifact.manifest import Manifest
from service.artifact.onnx_scan import scan_onnx
from service.artifact.storage import Artifact
from service.png import check_png
from service.runtime.predictor import Predictor


@dataclass(frozen=True)
class Verification:
    """What was proved again."""

    path: Path
    digest: str
    proof: Mapping[str, Any]
    """As in the manifest, with this machine's figures."""


def verify(path: Path) -> Verification:
    """Prove artifacts/<name>/<version> again.

    Raises:
        ArtifactError: it is not whole, or not of the format.
        ProofError: it is not one trained network, described as it is.
    """
    artifact = storage.read_artifact(path)
    scan_onnx(artifact.files[manifest.MODEL])  # before a library parses it
    tensors = read_weights(artifact.files[manifest.WEIGHTS])
    check_description(artifact.manifest, tensors)
    check_derived(artifact, tensors)
    check_golden(artifact.files[manifest.GOLDEN], artifact.manifest, tensors)
    for name in (manifest.CURVES, manifest.PROOF):
        check_png(name, artifact.files[name])
    script = artifact.files[manifest.TORCHSCRIPT]
    check_code(script, net_from_weights(tensors))
    rows = golden_document(tensors, golden_rows(artifact.manifest.features))["input"]
    proof = prove(
        (artifact.files[manifest.MODEL], script),
        tensors,
        artifact.manifest.features,
        np.array(rows, np.float32),
        most_out_of_range=1,  # golden rows lean to the extremes; the share was a gate when the artifact was published
    )
    Predictor(path, expect_digest=artifact.digest)  # the service's own view of it
    return Verification(path, artifact.digest, proof)


def read_weights(content: bytes) -> dict[str, Float32Array]:
    """Read the tensors that everything else is held to: of the expected names, shapes that fit, and finite."""
    try:
        found = {
            name: np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
            for name, (shape, data) in weights.read_tensors(content).items()
        }
    except (ValueError, OverflowError) as error:  # a shape that NumPy cannot hold
        raise ProofError(f"{manifest.WEIGHTS}: {error}") from None
    _require_equal("tensors", sorted(expected_names(task_of(found))), sorted(found))
    for name, values in found.items():
        _require_equal(f"dimensions of {name}", 2 if name.endswith(".weight") else 1, values.ndim)
    hidden, out, n = (
        len(found[name]) for name in ("net.linear1.bias", "net.linear2.bias", "shift")
    )
    shapes = {
        "shift": (n,),
        "scale": (n,),
        "net.linear1.weight": (hidden, n),
        "net.linear1.bias": (hidden,),
        "net.linear2.weight": (out, hidden),
        "net.linear2.bias": (out,),
        "output_scale": (out,),
        "output_shift": (out,),
    }
    for name, values in found.items():
        _require_equal(f"shape of {name}", shapes[name], values.shape)
        if not np.isfinite(values).all():
            raise ProofError(f"{manifest.WEIGHTS}: {name}: expected finite numbers, found others")
    return found


def check_description(stated: Manifest, tensors: Mapping[str, Float32Array]) -> None:
    """Hold what the manifest says of the network to its tensors: task, widths, and the statistics it scales by."""
    _require_equal("task", task_of(tensors), stated.task, manifest.MANIFEST)
    _require_equal(
        "count of features", len(tensors["shift"]), len(stated.features), manifest.MANIFEST
    )
    _require_equal(
        "count of outputs", len(tensors["net.linear2.bias"]), stated.out_features, manifest.MANIFEST
    )
    columns = ("mean", "std", "min", "max", "median")
    described = ColumnStatistics(
        *(np.array([getattr(f, column) for f in stated.features]) for column in columns)
    )
    for name, values in (("shift", described.mean), ("scale", described.scale)):
        differ = np.flatnonzero(values.astype(np.float32) != tensors[name])
        if differ.size:
            feature = stated.features[differ[0]].name
            raise ProofError(
                f"{manifest.MANIFEST}: the mean and std of {feature!r} are not those of its {name}"
            )
    comparisons = stated.proof.get("comparisons")
    if not isinstance(comparisons, list) or not all(
        isinstance(comparison, dict) for comparison in comparisons
    ):
        raise ProofError(
            f"{manifest.MANIFEST}: proof: cannot be read: expected a list of comparisons"
        )
    if failed := [comparison for comparison in comparisons if comparison.get("passed") is not True]:
        raise ProofError(
            f"{manifest.MANIFEST}: proof: states a comparison that failed: {failed[0].get('case')}"
        )


def check_derived(artifact: Artifact, tensors: Mapping[str, Float32Array]) -> None:
    """Write anew, byte for byte, what follows from the manifest: itself, the card, the example, Triton's file."""
    stated = artifact.manifest
    derived = {
        manifest.MANIFEST: stated.to_json(),
        manifest.EXAMPLE: example_document(stated.features),
        manifest.CARD: _card(stated),
    }
    for name, content in derived.items():
        if artifact.files[name] != content:
            raise ProofError(
                f"{name}: expected the bytes that follow from {manifest.MANIFEST}, found others"
            )
    parent = artifact.path.resolve().parent
    newest = storage.list_versions(parent)[-1:] == [stated.version]
    config = triton_config(stated.name, stated.task, len(stated.features), stated.out_features)
    if (
        newest
        and (parent / TRITON_CONFIG).exists()
        and (parent / TRITON_CONFIG).read_bytes() != config
    ):
        raise ProofError(
            f"{TRITON_CONFIG}: expected the bytes that follow from {manifest.MANIFEST}, found others"
        )


def check_golden(content: bytes, stated: Manifest, tensors: Mapping[str, Float32Array]) -> None:
    """Derive golden.json anew: equal rows and labels; references and bounds as equal as float64 is between machines.

    Every machine sums in its own order; what that explains in float64 is under 2^-20 of the bound (its inflation).
    """
    expected = golden_document(tensors, golden_rows(stated.features))
    slack = INFLATION - 1
    try:
        found = strict_json.parse(content)
        for key in ("format_version", "input"):
            _require_equal(key, True, expected[key] == found[key], manifest.GOLDEN)
        _require_equal(
            "outputs", list(expected["outputs"]), list(found["outputs"]), manifest.GOLDEN
        )
        for name, values in expected["outputs"].items():
            for key, derived in values.items():
                holds = derived == found["outputs"][name][key]
                if key in ("reference", "bound"):
                    numbers = np.array(found["outputs"][name][key], float)
                    off = np.abs(numbers - np.array(derived))
                    close = off <= slack * np.array(values["bound"])
                    holds = numbers.shape == np.shape(derived) and bool(close.all())
                if not holds or set(values) != set(found["outputs"][name]):
                    raise ProofError(
                        f"{manifest.GOLDEN}: {name}: {key} is not what follows from {manifest.WEIGHTS}"
                    )
    except (ValueError, KeyError, TypeError) as error:
        raise ProofError(f"{manifest.GOLDEN}: {error!r}") from None
    for name, values in expected["outputs"].items():
        values.update(
            {key: found["outputs"][name][key] for key in ("reference", "bound") if key in values}
        )
    if content != json_bytes(expected):  # true is equal to 1, and -0.0 to 0.0
        raise ProofError(
            f"{manifest.GOLDEN}: expected it as export writes it, found the same in other characters"
        )


def _card(stated: Manifest) -> bytes:
    try:
        return card(stated)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProofError(f"{manifest.MANIFEST}: proof: cannot be read: {error!r}") from None


def _require_equal(
    what: str, expected: object, found: object, file: str = manifest.WEIGHTS
) -> None:
    if expected != found:
        raise ProofError(f"{file}: {what}: expected {expected}, found {found}")
