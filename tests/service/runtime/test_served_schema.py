"""Tests of service.runtime.served_schema: all workers keep the schema that was served first."""

import multiprocessing
import re
from dataclasses import replace

import pytest

from service.artifact import storage
from service.artifact.manifest import ArtifactError
from service.runtime.served_schema import ServedSchema
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
    """Another schema is then accepted, but not another name."""
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
