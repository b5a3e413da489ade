"""From a run to a published artifact: export, prove, write the manifest, rename once. Nothing half-published."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from export import ProofError, report
from export.bounds import Float32Array, reference
from export.card import card
from export.hard_inputs import hard_inputs
from export.to_onnx import to_onnx
from export.to_torchscript import to_torchscript
from export.verify import prove
from model.checkpoint import Run, net_of
from model.staging import publish, replace, staged
from service import manifest
from service.check import check
from service.manifest import ArtifactError, Feature, Manifest
from service.predictor import Session

GOLDEN_ROWS = 16
TRITON = "config.pbtxt"


@dataclass(frozen=True)
class Published:
    """Where a run is published."""

    path: Path
    digest: str
    new: bool
    """False when it had been published before, as the newest version."""
    proof: Mapping[str, Any]
    """What the manifest says of the proof."""


def build(run: Run, artifacts: Path) -> Published:
    """Publish a run as the next version of artifacts/<name>, unless it is the newest already.

    Raises:
        ProofError: the files are not the trained network; nothing is published.
        OSError: the artifact cannot be written; nothing is left of it.
    """
    record, net = run.record, net_of(run.weights)
    features = tuple(Feature(**dataclasses.asdict(feature)) for feature in record.features)
    files = {
        manifest.MODEL: to_onnx(net),
        manifest.WEIGHTS: run.content,
        manifest.GOLDEN: written(golden(run.weights, golden_rows(features))),
        manifest.EXAMPLE: example(features),
        manifest.CURVES: (run.path / manifest.CURVES).read_bytes(),
    }
    parent = artifacts / record.name
    config = triton_config(record.name, record.task, len(features), record.out_features)
    if (newest := _newest(parent)) and _same(newest, files, run, features):
        replace(parent / TRITON, config)
        return Published(newest.path, newest.digest, False, newest.manifest.proof)

    files[manifest.TORCHSCRIPT] = to_torchscript(net)
    proof = prove((files[manifest.MODEL], files[manifest.TORCHSCRIPT]), run.weights, features, run.rows)
    cases, session = hard_inputs(features, run.rows), Session(files[manifest.MODEL])
    files[manifest.PROOF] = report.plot(cases, session.run, run.weights, record.name)
    with staged(artifacts, record.name) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        digest = ""

        def finish(version: int) -> None:
            nonlocal digest
            stated = _manifest(run, version, features, proof)
            files.update({manifest.MANIFEST: stated.to_json(), manifest.CARD: card(stated)})
            for name in (manifest.MANIFEST, manifest.CARD):
                (folder / name).write_bytes(files[name])
            (folder / manifest.SUMS).write_bytes(manifest.sums_of(files))
            digest = check(folder).digest  # what would be refused later is not published

        path = publish(folder, finish)
    replace(parent / TRITON, config)
    return Published(path, digest, True, proof)


def golden_rows(features: Sequence[Feature]) -> Float32Array:
    """Return rows that stand for the data without being of it: medians, extremes, zeros, and between them.

    No row of the training data is ever published.
    """
    low, median, high = (np.array([getattr(f, key) for f in features]) for key in ("min", "median", "max"))
    between = np.random.default_rng(0).uniform(low, high, (GOLDEN_ROWS - 4, len(features)))
    return np.concatenate([[median, low, high, np.zeros(len(features))], between]).astype(np.float32)


def golden(weights: Mapping[str, Float32Array], rows: Float32Array) -> dict[str, Any]:
    """Return what golden.json holds: rows, float64 answers and bounds, in numbers that round-trip exactly.

    Raises:
        ProofError: no row stays within float32's range.
    """
    rows = rows[reference(weights, rows).in_range]
    if not len(rows):
        raise ProofError("golden rows: expected some within float32's range, found none: scale the columns of the data")
    expected = reference(weights, rows)
    outputs: dict[str, Any] = {
        name: {"reference": values.tolist(), "bound": expected.bounds[name].tolist()}
        for name, values in expected.values.items()
    }
    if expected.accepted is not None:
        outputs["label"] = {"accepted": [np.flatnonzero(row).tolist() for row in expected.accepted]}
    return {
        "format_version": manifest.FORMAT_VERSION,
        "input": rows.astype(np.float64).tolist(),
        "outputs": outputs,
    }


def example(features: Sequence[Feature]) -> bytes:
    """Return example.json: the body of a request, with the median of every column."""
    return written({"instances": [[_short(feature.median) for feature in features]]})


def triton_config(name: str, task: str, in_features: int, out_features: int) -> bytes:
    """Return config.pbtxt, with which artifacts/ is a model repository for NVIDIA Triton."""
    types = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}
    outputs = ",\n".join(
        f'  {{ name: "{output}" data_type: {types[dtype]} dims: {[-1] if output == "label" else [-1, out_features]} }}'
        for output, dtype in manifest.OUTPUTS[task].items()
    )
    return f"""name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [
  {{ name: "{manifest.INPUT}" data_type: TYPE_FP32 dims: {[-1, in_features]} }}
]
output [
{outputs}
]
""".encode()


def _manifest(run: Run, version: int, features: tuple[Feature, ...], proof: Mapping[str, Any]) -> Manifest:
    record = run.record
    return Manifest(
        name=record.name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=record.task,
        features=features,
        targets=record.targets,
        classes=record.classes,
        metrics=record.metrics,
        baselines=record.baselines,
        training=dataclasses.asdict(record.config)
        | {"device": record.device, "threads": record.threads, "versions": record.versions},
        proof=proof,
    )


def _same(newest: manifest.Artifact, files: Mapping[str, bytes], run: Run, features: tuple[Feature, ...]) -> bool:
    """Say whether a run is what stands published: the same files, and the same said of them."""
    said = newest.manifest
    stated = _manifest(run, said.version, features, said.proof)
    return dataclasses.replace(stated, created=said.created).to_json() == newest.files[manifest.MANIFEST] and all(
        newest.files[name] == content for name, content in files.items()
    )


def _newest(parent: Path) -> manifest.Artifact | None:
    """Return the newest version of an artifact; None where there is none, or none that is whole."""
    try:
        return manifest.read(manifest.find(parent))
    except ArtifactError:
        return None


def _short(value: float) -> float:
    """Return the shortest decimal that is the same float32."""
    return float(str(np.float32(value)))


def written(document: dict[str, Any]) -> bytes:
    """Return the bytes of golden.json or example.json."""
    return json.dumps(document, allow_nan=False).encode() + b"\n"
