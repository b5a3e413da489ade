"""Tests of service.runtime.served_schema: all workers keep the schema that was served first."""

import multiprocessing
import os
import re
import signal
from dataclasses import replace

import pytest

from service.artifact import storage
from service.artifact.manifest import ArtifactError, Manifest
from service.runtime.served_schema import ServedSchema
from tests.serving import DEADLINE_SECONDS
from tests.stored import FLOWERS

FIRST = storage.read_manifest(FLOWERS.artifact)
RETRAINED = replace(FIRST, version=2, metrics=FIRST.metrics, training={})
REORDERED = replace(FIRST, version=3, features=FIRST.features[::-1])
RENAMED = replace(FIRST, version=4, name="roses")
PROBLEM = (
    "manifest.json: features: expected 'petal, length' in position 1, found 'year', unlike the "
    "schema of version 1, which this server serves; to change it, restart the server, or start it "
    "with --allow-schema-change"
)


def test_first_schema_is_kept() -> None:
    """A version with another schema is rejected, however many versions came before it."""
    schema = ServedSchema()
    for _ in range(2):
        schema.require(FIRST)
        schema.require(RETRAINED)
        with pytest.raises(ArtifactError, match=f"^{re.escape(PROBLEM)}$"):
            schema.require(REORDERED)
    ServedSchema().require(REORDERED)


def test_schema_may_be_allowed_to_change() -> None:
    """With allow_change, another schema is accepted, but not another name."""
    schema = ServedSchema()
    for manifest in (FIRST, REORDERED):
        schema.require(manifest, allow_change=True)
    for allow_change in (True, False):
        with pytest.raises(ArtifactError, match="expected the model flowers, found roses"):
            schema.require(RENAMED, allow_change=allow_change)


def test_worker_that_replaces_another_keeps_its_schema() -> None:
    """The schema that a process recorded holds for the processes forked after its death."""
    schema, fork = ServedSchema(), multiprocessing.get_context("fork")
    for manifest, code in ((FIRST, 0), (REORDERED, 1), (RETRAINED, 0)):
        worker = fork.Process(target=schema.require, args=(manifest,))
        worker.start()
        worker.join()
        assert code == worker.exitcode


def test_only_one_of_two_schemas_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts while another records its schema waits, and then compares its own."""
    schema, fork = ServedSchema(), multiprocessing.get_context("fork")
    is_recording, may_record, to_json = fork.Event(), fork.Event(), Manifest.to_json

    def pause(manifest: Manifest) -> bytes:
        if manifest.version == FIRST.version:
            is_recording.set()
            may_record.wait(DEADLINE_SECONDS)
        return to_json(manifest)

    monkeypatch.setattr(Manifest, "to_json", pause)
    first, second = (
        fork.Process(target=schema.require, args=(each,), daemon=True)
        for each in (FIRST, REORDERED)
    )
    first.start()
    assert is_recording.wait(DEADLINE_SECONDS)
    second.start()
    second.join(0.3)  # without a lock, it would end
    may_record.set()
    for worker in (first, second):
        worker.join(DEADLINE_SECONDS)
    assert [0, 1] == [first.exitcode, second.exitcode]


def test_a_worker_that_dies_releases_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker is killed while it records its schema, the next one records its own."""
    schema, fork = ServedSchema(), multiprocessing.get_context("fork")
    for code in (-signal.SIGKILL, 0):
        with monkeypatch.context() as patch:
            if code:
                patch.setattr(Manifest, "to_json", lambda _: os.kill(os.getpid(), signal.SIGKILL))
            worker = fork.Process(target=schema.require, args=(FIRST,), daemon=True)
            worker.start()
            worker.join(DEADLINE_SECONDS)
            assert code == worker.exitcode
