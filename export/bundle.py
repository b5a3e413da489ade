"""From a run to a published artifact: export, prove, write the manifest, rename once. Nothing half-published."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.staging import publish, replace_file, staged
from export.card import card
from export.golden import example_document, golden_document, golden_rows, json_bytes
from export.proof import report
from export.proof.hard_inputs import hard_inputs
from export.proof.prove import prove
from export.to_onnx import to_onnx
from export.to_torchscript import to_torchscript
from export.triton import TRITON_CONFIG, triton_config
from model.run import Run, net_from_weights
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError, Feature, Manifest
from service.runtime.check import check_artifact
from service.runtime.session import Session


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
    record, net = run.record, net_from_weights(run.weights)
    features = tuple(Feature(**dataclasses.asdict(feature)) for feature in record.features)
    files = {
        manifest.MODEL: to_onnx(net),
        manifest.WEIGHTS: run.content,
        manifest.GOLDEN: json_bytes(golden_document(run.weights, golden_rows(features))),
        manifest.EXAMPLE: example_document(features),
        manifest.CURVES: (run.path / manifest.CURVES).read_bytes(),
    }
    parent = artifacts / record.name
    config = triton_config(record.name, record.task, len(features), record.out_features)
    if (newest := _newest_artifact(parent)) and _is_unchanged(newest, files, run, features):
        replace_file(parent / TRITON_CONFIG, config)
        return Published(newest.path, newest.digest, False, newest.manifest.proof)

    files[manifest.TORCHSCRIPT] = to_torchscript(net)
    proof = prove(
        (files[manifest.MODEL], files[manifest.TORCHSCRIPT]), run.weights, features, run.rows
    )
    cases, session = hard_inputs(features, run.rows), Session(files[manifest.MODEL])
    files[manifest.PROOF] = report.plot_errors(cases, session.run, run.weights, record.name)
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
            (folder / manifest.SUMS).write_bytes(storage.sha256_sums(files))
            digest = check_artifact(folder).digest  # what would be refused later is not published

        path = publish(folder, finish)
    replace_file(parent / TRITON_CONFIG, config)
    return Published(path, digest, True, proof)


def _manifest(
    run: Run, version: int, features: tuple[Feature, ...], proof: Mapping[str, Any]
) -> Manifest:
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


def _is_unchanged(
    newest: storage.Artifact, files: Mapping[str, bytes], run: Run, features: tuple[Feature, ...]
) -> bool:
    """Say whether a run is what stands published: the same files, and the same said of them."""
    said = newest.manifest
    stated = _manifest(run, said.version, features, said.proof)
    return dataclasses.replace(stated, created=said.created).to_json() == newest.files[
        manifest.MANIFEST
    ] and all(newest.files[name] == content for name, content in files.items())


def _newest_artifact(parent: Path) -> storage.Artifact | None:
    """Return the newest version of an artifact; None where there is none, or none that is whole."""
    try:
        return storage.read_artifact(storage.find_version(parent))
    except ArtifactError:
        return None
