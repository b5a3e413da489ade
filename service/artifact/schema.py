"""The schema of a model, which gives requests and replies their meaning, and its comparison."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.artifact import storage
from service.artifact.manifest import ArtifactError, Manifest
from tabular.names import quote_names

MAX_LISTED_DIFFERENCES = 5
"""Maximum number of differences that a notice lists."""
MAX_LISTED_NAMES = 3
"""Maximum number of names that one difference lists."""


def schema_differences(expected: Manifest, actual: Manifest) -> Iterator[str]:
    """Yield every difference in task, features, targets and classes as a line of text.

    Two models with the same schema give each request the same meaning: positional rows have the
    same features in the same order, and outputs have the same targets or classes. The kinds float
    and integer are the same, because both are numbers in a request.
    """
    if expected.task != actual.task:
        yield f"task: expected {expected.task}, found {actual.task}"
    names = [feature.name for feature in expected.features]
    actual_names = [feature.name for feature in actual.features]
    yield from _list_differences("features", names, actual_names)
    actual_kinds = {feature.name: _kind(feature.kind) for feature in actual.features}
    for feature in expected.features:
        kind = _kind(feature.kind)
        if (actual_kind := actual_kinds.get(feature.name, kind)) != kind:
            yield f"features: '{feature.name}': expected a {kind}, found a {actual_kind}"
    yield from _list_differences("targets", expected.targets, actual.targets)
    # As JSON, 1, 1.0, true and "1" are different classes, as they are in replies.
    classes = [[json.dumps(c, ensure_ascii=False) for c in m.classes] for m in (expected, actual)]
    yield from _list_differences("classes", *classes)


def schema_notice(path: Path) -> list[str]:
    """Return how the schema of a version folder differs from that of the version before it.

    The lines also say what follows. There are none if the schema is the same, or if no version
    before it is undamaged.
    """
    actual = storage.read_manifest(path)
    is_numbered = path.name == str(actual.version)
    expected = _manifest_before(path.parent, actual.version) if is_numbered else None
    differences = list(schema_differences(expected, actual)) if expected else []
    if expected is None or not differences:
        return []
    listed = differences[:MAX_LISTED_DIFFERENCES]
    if len(differences) > len(listed):
        listed.append(f"and {len(differences) - len(listed)} more differences")
    condition = "unless started with --allow-schema-change"
    return [
        f"the schema of version {actual.version} differs from that of version {expected.version}:",
        *(f"  {line}" for line in listed),
        f"running servers refuse version {actual.version}, {condition}",
    ]


def _manifest_before(parent: Path, version: int) -> Manifest | None:
    """Return the manifest of the newest undamaged version before a version, or None."""
    for number in reversed(storage.list_versions(parent)):
        if number < version:
            with contextlib.suppress(ArtifactError, OSError):
                return storage.read_manifest(parent / str(number))
    return None


def _list_differences(member: str, expected: Sequence[str], actual: Sequence[str]) -> Iterator[str]:
    """Yield a line for the names that only one of two lists has, or else for their order."""
    common = set(expected) & set(actual)
    missing = [name for name in expected if name not in common]
    extra = [name for name in actual if name not in common]
    if missing or extra:
        names = [quote_names(only, MAX_LISTED_NAMES) for only in (missing, extra)]
        yield f"{member}: expected {names[0]}, found {names[1]}"
    else:
        for position, (name, actual_name) in enumerate(zip(expected, actual, strict=False), 1):
            if name != actual_name:
                yield f"{member}: expected '{name}' in position {position}, found '{actual_name}'"
                return


def _kind(kind: str) -> str:
    return "number" if kind in ("float", "integer") else kind
