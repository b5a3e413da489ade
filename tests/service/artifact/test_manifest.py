"""Tests of service.artifact.manifest and strict_json: manifest.json is parsed strictly."""

import dataclasses
import json
import re
from typing import Any

import jsonschema
import pytest

from service.artifact import manifest
from service.artifact.manifest import ArtifactError, Feature, Manifest
from tests.serving import ROOT
from tests.stored import DATA, FLOWERS, HOUSES, StoredArtifact

SCHEMA = json.loads((ROOT / "docs" / "manifest.schema.json").read_bytes())
FIXED = Manifest(
    name="flowers",
    version=3,
    created="2026-01-02T03:04:05+00:00",
    task="classification",
    features=(
        Feature(name='größe "m"', kind="float", min=-1.5, max=1e22, mean=0.1, median=0.0, std=1e-7),
        Feature(name="\U0001f600", kind="boolean", min=0.0, max=1.0, mean=0.5, median=1.0, std=0.5),
    ),
    targets=("species",),
    classes=(1, 1.5, True, "1"),
    metrics={part: {"accuracy": 1.0} for part in ("train", "validation", "test")},
    baselines={"linear": {"accuracy": 0.3333333333333333}},
    training={"epochs": 20, "learning_rate": 0.001, "note": None},
    proof={"warnings": [], "rows": 7},
)


def test_manifest_is_read_as_it_was_written() -> None:
    """Writing gives the stored bytes; the classes 1, 1.5, true and "1" keep their JSON types."""
    content = (DATA / "manifest.json").read_bytes()
    assert content == FIXED.to_json()
    parsed = Manifest.from_json(content)
    assert FIXED == parsed
    assert [type(value) for value in FIXED.classes] == [type(value) for value in parsed.classes]


@pytest.mark.parametrize("stored", [FLOWERS, HOUSES])
def test_schema_describes_manifests_of_both_tasks(stored: StoredArtifact) -> None:
    """The published JSON Schema is valid, accepts real manifests, and requires every field."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    document = json.loads((stored.artifact / manifest.MANIFEST).read_bytes())
    assert validator.is_valid(document)
    for name in document:
        incomplete = {key: value for key, value in document.items() if key != name}
        assert not validator.is_valid(incomplete), name
    assert not validator.is_valid(document | {"more": 1})
    assert [field.name for field in dataclasses.fields(Manifest)] == SCHEMA["required"]
    features = SCHEMA["properties"]["features"]["items"]["required"]
    assert [field.name for field in dataclasses.fields(Feature)] == features
    definitions, proof = SCHEMA["$defs"], document["proof"]
    for name, members in (
        ("proof", proof),
        ("comparison", proof["comparisons"][0]),
        ("runtime", proof["runtimes"]["eager"]),
    ):
        assert sorted(members) == sorted(definitions[name]["required"])


def edit(**changes: Any) -> bytes:
    """Return the manifest as JSON with some fields replaced, or removed if the value is None."""
    document = json.loads(FIXED.to_json()) | changes
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


FEATURE = dataclasses.asdict(FIXED.features[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edit(name="../x"), "expected a name of [a-z0-9_-], found '../x'"),
        (edit(version=0), "expected a version of 1 or more, found 0"),
        (edit(version=True), "version: expected int, found true"),
        (edit(version=2**64), "too large for an integer"),
        (edit(format_version=True), "expected format_version 1, found True"),
        (edit(created="yesterday"), "expected created in ISO 8601 and UTC, found 'yesterday'"),
        (edit(task="rank"), 'task: expected one of regression, classification, found "rank"'),
        (edit(task=None), "'task' is missing"),
        (edit(more=1), "'more' is not part of the format"),
        (edit(features=[]), "expected one or more features with unique names"),
        (edit(features={}), "features: expected a list, found {}"),
        (edit(features=[FEATURE] * 2), "expected one or more features with unique names"),
        (edit(features=[FEATURE | {"min": 1}]), "features: [0]: min: expected float, found 1"),
        (edit(features=[FEATURE | {"min": 1e30}]), "min <= median <= max"),
        (edit(features=[[]]), "features: [0]: expected an object, found []"),
        (edit(targets=["a", "b"]), "expected one target for a classification"),
        (edit(classes=[]), "expected classes for a classification"),
        (edit(classes=["a", "a"]), "expected unique classes"),
        (edit(classes=[[]]), "classes: [0]: expected str or int or float or bool, found []"),
        (edit(task="regression"), "expected no classes for a regression"),
        (edit(task="regression", targets=[]), "expected one or more targets for a regression"),
        (edit(metrics={}), "expected metrics of train, validation and test"),
        (edit(baselines={"linear": {"r2": 1.0}}), "expected the same metrics for every part and"),
        (edit().replace(b'"name"', b'"name": "x", "name"', 1), "duplicate key 'name'"),
        (edit().replace(b"-1.5", b"NaN"), "NaN is not valid JSON"),
        (edit().replace(b"1.5", b"1e999"), "1e999 is too large"),
        (edit().replace(b"species", rb"\ud800"), "surrogates not allowed"),
        (b"\xef\xbb\xbf" + edit(), "BOM"),
        (b"[" * 1_000_000, "expected at most 16 nested levels"),
        (b'"' + b'\\"' * 1_000_000, "not a manifest"),
        (b"{}", "not a manifest: KeyError('format_version')"),
        (b'{"format_version": 2}', "expected format_version 1, found 2"),
    ],
)
def test_manifest_is_read_strictly(content: bytes, message: str) -> None:
    """Wrong types and fields, and ambiguous JSON, are rejected with an error that locates them."""
    with pytest.raises(ArtifactError, match=re.escape(message)):
        Manifest.from_json(content)
