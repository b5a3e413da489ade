"""JSON Schemas (2020-12) from the manifest: feature names, widths, classes and limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.artifact.manifest import Feature, Manifest

Schema = dict[str, Any]
MIN_OVERFLOW = 2.0**128 - 2.0**103
"""Smallest number that rounds to an infinite float32: halfway from the largest one to 2^128."""
MAX_LISTED_FEATURES = 12
"""Maximum number of features that the description of a row lists."""
NUMBER: Schema = {"type": "number"}
STRING: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DIGEST: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "Hexadecimal SHA-256 of SHA256SUMS, which covers every byte of the artifact.",
}
PROBLEM_TEXTS = {
    "detail": "The place, then what was expected and what was found.",
    "error": "The same text as detail, for clients of V2 and V1.",
    "request_id": "ID of the request, also in X-Request-ID and in the server's log.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, description: str) -> Schema:
    """Return a schema with a description."""
    return schema | {"description": description}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Schema, min_items: int = 0, max_items: int | None = None) -> Schema:
    """Return the schema of a list."""
    limits = {"minItems": min_items} if min_items else {}
    if max_items is not None:
        limits["maxItems"] = max_items
    return {"type": "array", "items": items, **limits}


def model_schemas(manifest: Manifest, max_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Return the schemas of rows, of the model and of errors, by name.

    Args:
        manifest: Manifest of the model.
        max_rows: Maximum number of rows in one request.
        versions: Served versions, all with this manifest's features and outputs.
    """
    width = len(manifest.features)
    order = ", ".join(feature.name for feature in manifest.features[:MAX_LISTED_FEATURES])
    more = f" and so on, {width} in all, in the order of Record"
    order += more if width > MAX_LISTED_FEATURES else ""
    number = {"exclusiveMinimum": -MIN_OVERFLOW, "exclusiveMaximum": MIN_OVERFLOW}
    record = members({feature.name: _feature(feature) for feature in manifest.features})
    status: Schema = {"type": "integer", "minimum": 400, "maximum": 599}
    texts = {name: described(STRING, text) for name, text in PROBLEM_TEXTS.items()}
    problem = members(
        {"type": {"const": "about:blank"}, "title": STRING, "status": status, **texts},
        {"where": described(STRING, "The place in the request, such as instances[3][17].")},
    )
    ready = members(
        {"status": {"const": "ready"}, "model": ref("Model"), "digest": DIGEST},
        {"problem": described(STRING, "Why a newer version is not served.")},
    )
    return {
        "Number": described(NUMBER | number, "A number that rounds to a finite float32."),
        "Row": described(array(ref("Number"), width, width), f"The features in order: {order}."),
        "Record": described(record, "The features by name, in any order."),
        "Rows": {
            "description": "Rows or records; one request cannot mix them.",
            "anyOf": [array(ref("Row"), 0, max_rows), array(ref("Record"), 0, max_rows)],
        },
        "Model": members({"name": {"const": manifest.name}, "version": {"enum": list(versions)}}),
        "Manifest": _manifest(manifest),
        "Ready": ready,
        "Problem": described(problem, "Every error: the members of RFC 9457, and error."),
    }


def _feature(feature: Feature) -> Schema:
    """Return the schema of a feature; the range of the training rows is no limit."""
    low, high, median = (
        f"{float(str(np.float32(value))):.9g}"
        for value in (feature.min, feature.max, feature.median)
    )
    text = f"{feature.kind}; in the training rows {low} to {high}, median {median}."
    return described(ref("Number"), text)


def _manifest(manifest: Manifest) -> Schema:
    """Return the schema of GET /model: the digest, and manifest.json (docs/artifact.md)."""
    statistics = dict.fromkeys(("min", "max", "mean", "median", "std"), NUMBER)
    kind: Schema = {"enum": ["float", "integer", "boolean"]}
    metrics: Schema = {"type": "object", "additionalProperties": NUMBER}
    width = len(manifest.features)
    return members(
        {
            "digest": DIGEST,
            "format_version": {"const": manifest.format_version},
            "name": {"const": manifest.name},
            "version": {"type": "integer", "minimum": 1},
            "created": {"type": "string", "format": "date-time"},
            "task": {"const": manifest.task},
            "features": array(members({"name": STRING, "kind": kind, **statistics}), width, width),
            "targets": {"const": list(manifest.targets)},
            "classes": {"const": list(manifest.classes)},
            "metrics": members(dict.fromkeys(("train", "validation", "test"), metrics)),
            "baselines": {"type": "object", "additionalProperties": metrics},
            "training": {"type": "object"},
            "proof": {"type": "object"},
        }
    )
