"""Publish a run as an artifact: export it, prove the files, and write the folder."""

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
from export.proof.prove import Proof, prove
from export.to_onnx import to_onnx
from export.to_torchscript import to_torchscript
from export.triton import TRITON_CONFIG, triton_config
from model.run import Run, net_from_weights
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError, Feature, Manifest
from service.runtime.check import check_artifact
from service.runtime.session import Session


@dataclass(frozen=True)
class Publication:
    """The artifact of a run, published by this call of build() or by an earlier one."""

    path: Path
    digest: str
    proof: Proof | None
    """Results of the proof; None if the newest version already equalled the run."""


def build(run: Run, artifacts: Path = Path("artifacts")) -> Publication:
    """Publish a run as the next version of its artifact, unless the newest already equals it.

    Raises:
        ProofError: the exported files do not match the run; nothing is published.
        OSError: the artifact cannot be written; no incomplete files remain.
    """
    record, features, parent = run.record, features_of(run), artifacts / run.record.name
    files = {
        manifest.MODEL: to_onnx(net_from_weights(run.weights)),
        manifest.WEIGHTS: run.content,
        manifest.GOLDEN: json_bytes(golden_document(run.weights, golden_rows(features))),
        manifest.EXAMPLE: example_document(features),
        manifest.CURVES: (run.path / manifest.CURVES).read_bytes(),
    }
    try:
        newest = storage.read_artifact(storage.find_version(parent))
    except ArtifactError:  # No artifact exists, or it is incomplete.
        newest = None
    if newest and is_unchanged(newest, files, run):
        publication = Publication(newest.path, newest.digest, None)
    else:
        publication = _prove_and_publish(run, files, artifacts)
    config = triton_config(record.name, record.task, len(features), record.out_features)
    replace_file(parent / TRITON_CONFIG, config)
    return publication


def features_of(run: Run) -> tuple[Feature, ...]:
    """Return the features of a run as entries of the manifest."""
    return tuple(Feature(**dataclasses.asdict(feature)) for feature in run.record.features)


def is_unchanged(artifact: storage.Artifact, files: Mapping[str, bytes], run: Run) -> bool:
    """Return whether an artifact contains the given files and the manifest of a run.

    A repeated fit with the same result is unchanged, although the run has another number. So is a
    run of which an older version of this program wrote less into the manifest.
    """
    published = artifact.manifest
    description = _manifest(run, published.version, published.proof)
    training = {**description.training, "run": published.training.get("run")}
    training = {name: training[name] for name in training if name in published.training}
    description = dataclasses.replace(description, created=published.created, training=training)
    expected = {**files, manifest.MANIFEST: description.to_json()}
    return all(artifact.files[name] == content for name, content in expected.items())


def _prove_and_publish(run: Run, files: Mapping[str, bytes], artifacts: Path) -> Publication:
    """Prove the files, write them to a temporary folder, check the folder, and rename it."""
    name, model, features = run.record.name, files[manifest.MODEL], features_of(run)
    script = to_torchscript(net_from_weights(run.weights))
    proof = prove((model, script), run.weights, features, run.rows)
    cases = hard_inputs(features, run.rows)
    plot = report.plot_errors(cases, Session(model).run, run.weights, name)
    with staged(artifacts, name) as folder:

        def finish(version: int) -> None:
            description = _manifest(run, version, proof.to_members())
            contents = {
                **files,
                manifest.TORCHSCRIPT: script,
                manifest.PROOF: plot,
                manifest.MANIFEST: description.to_json(),
                manifest.CARD: card(description, proof),
            }
            contents[manifest.SUMS] = storage.sha256_sums(contents)
            for file, content in contents.items():
                (folder / file).write_bytes(content)
            check_artifact(folder)

        path = publish(folder, finish)
    return Publication(path, storage.read_artifact(path).digest, proof)


def _manifest(run: Run, version: int, proof: Mapping[str, Any]) -> Manifest:
    record = run.record
    return Manifest(
        name=record.name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=record.task,
        features=features_of(run),
        targets=record.targets,
        classes=record.classes,
        metrics=record.metrics,
        baselines=record.baselines,
        training=dataclasses.asdict(record.config)
        | {"device": record.device, "threads": record.threads, "versions": record.versions}
        | _origin(run),
        proof=proof,
    )


def _origin(run: Run) -> dict[str, Any]:
    """Return the run's name and the data's hash, without paths, which are private."""
    number, source = run.path.resolve().name, run.record.source
    origin: dict[str, Any] = {"run": f"{run.record.name}/{number}"}
    if source:
        origin |= {"data_sha256": source.sha256, "dropped_columns": source.dropped_columns}
    return origin
