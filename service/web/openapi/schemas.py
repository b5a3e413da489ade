"""JSON Schemas (2020-12) of a model's requests and replies, generated from its manifest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from service.artifact.manifest import INPUT, OUTPUTS, Feature, Manifest
from service.protocols import tfserving, v2
from service.protocols.v2_request import DATATYPES, UNSUPPORTED_PARAMETERS

Schema = dict[str, Any]
MIN_OVERFLOW = 2.0**128 - 2.0**103
"""Smallest number that rounds to an infinite float32, halfway from the largest finite to 2^128."""
MAX_LISTED_FEATURES = 12
"""Maximum number of features that the description of a row lists."""
NUMBER: Schema = {"type": "number"}
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
NULL: Schema = {"type": "null"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DIGEST = STRING | {"pattern": "^[0-9a-f]{64}$", "description": "Hexadecimal SHA-256 of SHA256SUMS."}
DATATYPE_TEXT = "An integer type needs integers in its range; all numbers are rounded to float32."
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def ref(name: str | int, component: str = "schemas") -> Schema:
    """Return a reference to a schema, or to another component of the document."""
    return {"$ref": f"#/components/{component}/{name}"}


def refs(component: str, names: Iterable[str | int]) -> dict[str, Schema]:
    """Return references to components of the document by name."""
    return {str(name): ref(name, component) for name in names}


def describe(schema: Schema, description: str) -> Schema:
    """Return a schema with a description."""
    return schema | {"description": description}


def or_null(schema: Schema) -> Schema:
    """Return the schema of an optional value; null counts as absent."""
    return {"anyOf": [schema, NULL]}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these members and no others."""
    properties, names = {**required, **(optional or {})}, list(required)
    return OBJECT | {"properties": properties, "required": names, "additionalProperties": False}


def array(items: Schema | bool, min_items: int = 0, max_items: int | None = None) -> Schema:
    """Return the schema of a list."""
    limits = {"minItems": min_items} if min_items else {}
    if max_items is not None:
        limits["maxItems"] = max_items
    return {"type": "array", "items": items, **limits}


def document_schemas(
    manifest: Manifest, max_rows: int, versions: Sequence[str]
) -> dict[str, Schema]:
    """Return the schemas by name; every served version has the manifest's features and outputs."""
    version: Schema = {"enum": list(versions)}
    return {
        **_row_schemas(manifest, max_rows),
        "Model": members({"name": {"const": manifest.name}, "version": version}),
        "Manifest": _manifest(manifest),
        **_status_schemas(),
        **_native_schemas(manifest),
        **_infer_request(manifest, max_rows),
        **_infer_reply(manifest, version),
        **_v1_schemas(manifest, max_rows, version),
    }


def _row_schemas(manifest: Manifest, max_rows: int) -> dict[str, Schema]:
    width = len(manifest.features)
    order = ", ".join(feature.name for feature in manifest.features[:MAX_LISTED_FEATURES])
    if width > MAX_LISTED_FEATURES:
        order += f" and so on, {width} in all, in the order of Record"
    number = NUMBER | {"exclusiveMinimum": -MIN_OVERFLOW, "exclusiveMaximum": MIN_OVERFLOW}
    record = members({feature.name: _feature(feature) for feature in manifest.features})
    rows = {"anyOf": [array(ref("Row"), 0, max_rows), array(ref("Record"), 0, max_rows)]}
    return {
        "Number": describe(number, "A number that rounds to a finite float32."),
        "Row": describe(array(ref("Number"), width, width), f"The features in order: {order}."),
        "Record": describe(record, "The features by name, in any order."),
        "Rows": describe(rows, "Rows or records; one request cannot mix them."),
    }


def _feature(feature: Feature) -> Schema:
    """Return the schema of a feature; the training range is described but not enforced."""
    values = (feature.min, feature.max, feature.median)
    low, high, median = (f"{float(str(np.float32(value))):.9g}" for value in values)
    text = f"{feature.kind}; in the training rows {low} to {high}, median {median}."
    return describe(ref("Number"), text)


def _manifest(manifest: Manifest) -> Schema:
    """Return the schema of GET /model: the digest, and manifest.json (docs/artifact.md)."""
    statistics = dict.fromkeys(("min", "max", "mean", "median", "std"), NUMBER)
    kind: Schema = {"enum": ["float", "integer", "boolean"]}
    metrics = OBJECT | {"additionalProperties": NUMBER}
    width = len(manifest.features)
    return members(
        {
            "digest": DIGEST,
            "format_version": {"const": manifest.format_version},
            "name": {"const": manifest.name},
            "version": COUNT | {"minimum": 1},
            "created": STRING | {"format": "date-time"},
            "task": {"const": manifest.task},
            "features": array(members({"name": STRING, "kind": kind, **statistics}), width, width),
            "targets": {"const": list(manifest.targets)},
            "classes": {"const": list(manifest.classes)},
            "metrics": members(dict.fromkeys(("train", "validation", "test"), metrics)),
            "baselines": OBJECT | {"additionalProperties": metrics},
            "training": OBJECT,
            "proof": OBJECT,
        }
    )


def _status_schemas() -> dict[str, Schema]:
    """Return the schemas of readiness and of errors, which are the same for every model."""
    ready = members(
        {"status": {"const": "ready"}, "model": ref("Model"), "digest": DIGEST},
        {"problem": describe(STRING, "Why a newer version is not served.")},
    )
    problem = members(
        {
            "type": {"const": "about:blank"},
            "title": STRING,
            "status": COUNT | {"minimum": 400, "maximum": 599},
            "detail": describe(STRING, "The location, then what was expected and what was found."),
            "error": describe(STRING, "The same text as detail, for clients of V2 and V1."),
            "request_id": describe(STRING, "ID of the request, also in X-Request-ID."),
        },
        {"where": describe(STRING, "The location in the request, such as instances[3][17].")},
    )
    return {"Ready": ready, "Problem": describe(problem, "The members of RFC 9457, and error.")}


def _native_schemas(manifest: Manifest) -> dict[str, Schema]:
    request = {"PredictRequest": members({"instances": ref("Rows")})}
    if manifest.task == "regression":
        text = f"A row of {', '.join(manifest.targets)} per instance, in the targets' units."
        predictions = describe(array(_numbers(manifest.out_features)), text)
        reply = members({"predictions": predictions, "model": ref("Model")})
        return request | {"PredictReply": reply}
    classes = list(manifest.classes)
    types = sorted({JSON_TYPES[type(value)] for value in classes})
    text = "The probabilities per instance, in the order of classes."
    probabilities = array(_numbers(len(classes), minimum=0, maximum=1))
    reply = members(
        {
            "predictions": describe(array(ref("Class")), "The most probable class per instance."),
            "probabilities": describe(probabilities, text),
            "classes": {"const": classes},
            "model": ref("Model"),
        }
    )
    one_class = {"type": types[0] if len(types) == 1 else types, "enum": classes}
    return request | {"PredictReply": reply, "Class": one_class}


def _infer_request(manifest: Manifest, max_rows: int) -> dict[str, Schema]:
    width, outputs = len(manifest.features), list(OUTPUTS[manifest.task])
    shape = array(False, 2, 2) | {"prefixItems": [COUNT | {"maximum": max_rows}, {"const": width}]}
    nested = array(ref("Row"), 0, max_rows) | {"title": "nested"}
    flat = array(ref("Number"), 0, max_rows * width) | {"title": "flat"}
    names = [{"properties": {"name": {"const": name}}} for name in outputs]
    at_most_once = [{"contains": name, "minContains": 0, "maxContains": 1} for name in names]
    requested = array(ref("InferRequestedOutput"), 0, len(outputs)) | {"allOf": at_most_once}
    tensor: dict[str, Schema] = {
        "name": {"const": INPUT},
        "datatype": describe({"enum": list(DATATYPES)}, DATATYPE_TEXT),
        "shape": describe(shape, "The number of rows in data, and the number of features."),
        "data": {"anyOf": [nested, flat]},
    }
    options = {
        "id": describe(or_null(STRING), "Returned in the reply."),
        "model_name": or_null({"const": manifest.name}),
        "outputs": describe(or_null(requested), "Each at most once; all outputs by default."),
        "parameters": _parameters(binary_data_output=or_null(BOOLEAN)),
    }
    output_parameters = {"parameters": _parameters(binary_data=or_null(BOOLEAN))}
    return {
        "InferRequest": members({"inputs": array(ref("InferInput"), 1, 1)}, options),
        "InferInput": members(tensor, {"parameters": _parameters(binary_data_size=NULL)}),
        "InferRequestedOutput": members({"name": {"enum": outputs}}, output_parameters),
    }


def _parameters(**known: Schema) -> Schema:
    """Return the schema of V2's parameters; the service ignores unknown ones."""
    scalar = {"type": ["string", "number", "boolean", "null"]}
    properties = known | dict.fromkeys(UNSUPPORTED_PARAMETERS, NULL)
    return or_null(OBJECT | {"properties": properties, "additionalProperties": scalar})


def _infer_reply(manifest: Manifest, version: Schema) -> dict[str, Schema]:
    name: Schema = {"const": manifest.name}
    metadata = v2.model_metadata(manifest)
    constants = {key: {"const": metadata[key]} for key in ("platform", "inputs", "outputs")}
    tensors = []
    for output in metadata["outputs"]:
        dimensions = len(output["shape"])
        tensor = {key: {"const": output[key]} for key in ("name", "datatype")}
        tensor["shape"] = array(COUNT, dimensions, dimensions)
        tensor["data"] = array(_label(manifest) if output["name"] == "label" else NUMBER)
        tensors.append(members(tensor))
    outputs = array({"anyOf": tensors}, 1, len(tensors))
    reply = {"model_name": name, "model_version": version, "outputs": outputs}
    return {
        "InferReply": members(reply, {"id": STRING}),
        "ModelMetadata": members({"name": name, "versions": array(version, 1), **constants}),
        "ModelReady": members({"name": name, "ready": {"const": True}}),
    }


def _v1_schemas(manifest: Manifest, max_rows: int, version: Schema) -> dict[str, Schema]:
    signature: dict[str, Schema] = {"signature_name": {"enum": list(tfserving.SIGNATURES)}}
    rows = {"instances": ref("Rows"), "inputs": array(ref("Row"), 0, max_rows)}
    request = {"anyOf": [members({name: schema}, signature) for name, schema in rows.items()]}
    width = manifest.out_features
    by_row = by_output = array(_numbers(width))
    if manifest.task == "classification":
        probabilities = _numbers(width, minimum=0, maximum=1)
        row = {"logits": _numbers(width), "probabilities": probabilities, "label": _label(manifest)}
        by_row = array(members(row))
        by_output = members({name: array(schema) for name, schema in row.items()})
    reply = {"anyOf": [members({"predictions": by_row}), members({"outputs": by_output})]}
    state: dict[str, Schema] = {
        "version": version,
        "state": {"enum": ["AVAILABLE", "UNLOADING"]},
        "status": {"const": tfserving.STATUS_OK},
    }
    states = array(members(state), 1)
    status = {"model_version_status": states, "name": {"const": manifest.name}, "ready": BOOLEAN}
    return {"V1Request": request, "V1Reply": reply, "V1Status": members(status)}


def _label(manifest: Manifest) -> Schema:
    label = COUNT | {"maximum": len(manifest.classes) - 1}
    return describe(label, "Index of the class, from 0, in the order of the model's classes.")


def _numbers(width: int, **limits: float) -> Schema:
    return array(NUMBER | limits, width, width)
