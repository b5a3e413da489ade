"""Tests of service.artifact.schema: which models give the same meaning to a request."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.artifact import manifest, storage
from service.artifact.manifest import Manifest
from service.artifact.schema import schema_differences, schema_notice
from tests.stored import FLOWERS, HOUSES

CLASSIFIER = storage.read_manifest(FLOWERS.artifact)
REGRESSOR = storage.read_manifest(HOUSES.artifact)
NAMES = [feature.name for feature in CLASSIFIER.features]
LAST = CLASSIFIER.features[-1]


def with_features(*features: manifest.Feature) -> Manifest:
    """Return the classifier with other features."""
    return replace(CLASSIFIER, features=features)


@pytest.mark.parametrize(
    ("expected", "actual", "differences"),
    [
        (
            CLASSIFIER,
            with_features(*CLASSIFIER.features[::-1]),
            ["features: expected 'petal, length' in position 1, found 'year'"],
        ),
        (
            CLASSIFIER,
            with_features(*CLASSIFIER.features[:-1]),
            ["features: expected 'year', found nothing"],
        ),
        (
            with_features(*CLASSIFIER.features[:-1]),
            CLASSIFIER,
            ["features: expected nothing, found 'year'"],
        ),
        (
            CLASSIFIER,
            with_features(*CLASSIFIER.features[:-1], replace(LAST, name="age")),
            ["features: expected 'year', found 'age'"],
        ),
        (
            CLASSIFIER,
            with_features(*CLASSIFIER.features[:-1], replace(LAST, kind="boolean")),
            ["features: 'year': expected a number, found a boolean"],
        ),
        (
            CLASSIFIER,
            replace(CLASSIFIER, targets=("kind",)),
            ["targets: expected 'species', found 'kind'"],
        ),
        (
            replace(REGRESSOR, targets=("a", "b")),
            replace(REGRESSOR, targets=("b", "a")),
            ["targets: expected 'a' in position 1, found 'b'"],
        ),
        (
            replace(CLASSIFIER, classes=(1, 2)),
            replace(CLASSIFIER, classes=(True, 2.0)),
            ["classes: expected '1', '2', found 'true', '2.0'"],
        ),
        (
            replace(CLASSIFIER, classes=("x", "y")),
            replace(CLASSIFIER, classes=("y", "x")),
            ["classes: expected '\"x\"' in position 1, found '\"y\"'"],
        ),
    ],
)
def test_differences(expected: Manifest, actual: Manifest, differences: list[str]) -> None:
    """Each difference is one line that names what was expected and what was found."""
    assert differences == list(schema_differences(expected, actual))


def test_same_schema() -> None:
    """Other statistics, metrics, versions and kinds of numbers do not change the schema."""
    kinds: Any = {"integer": "float", "float": "integer", "boolean": "boolean"}
    features = [replace(f, kind=kinds[f.kind], mean=f.mean + 1) for f in CLASSIFIER.features]
    retrained = replace(with_features(*features), version=7, metrics={}, training={}, proof={})
    assert [] == list(schema_differences(CLASSIFIER, retrained))


def test_another_task_differs_in_everything() -> None:
    """A regressor in place of a classifier differs in its task, and in all other parts."""
    differences = list(schema_differences(CLASSIFIER, REGRESSOR))
    assert "task: expected classification, found regression" == differences[0]
    assert ["features", "targets", "classes"] == [line.split(":")[0] for line in differences[1:]]


def test_notice_compares_with_the_version_before(
    artifact: Path, add_version: Callable[..., Path]
) -> None:
    """Damaged versions and versions of the same schema are passed over or give no notice."""
    add_version(2)
    (add_version(3) / manifest.MODEL).unlink()
    reordered = add_version(4, features=json.loads(CLASSIFIER.to_json())["features"][::-1])
    assert [[], []] == [schema_notice(artifact.parent / name) for name in ("1", "2")]
    assert [
        "the schema of version 4 differs from that of version 2:",
        "  features: expected 'petal, length' in position 1, found 'year'",
        "running servers refuse version 4, unless started with --allow-schema-change",
    ] == schema_notice(reordered)
    assert [] == schema_notice(reordered.rename(artifact.parent / "model"))
