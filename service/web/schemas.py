"""JSON Schemas of what the service takes and gives, from the manifest of the model: widths, names, classes, limits.

JSON Schema 2020-12, as OpenAPI 3.1 has it; `$ref`s point into the components of service.openapi's document.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.artifact.manifest import INPUT, OUTPUTS, Feature, Manifest
from service.protocols import v2

Schema = dict[str, Any]
BEYOND_FLOAT32 = 2.0**128 - 2.0**103
"""The least number whose nearest float32 is infinite: halfway from the largest float32 to the next step, 2^128."""
DIGEST: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "SHA-256, hexadecimal; it stands for every byte of the artifact.",
}
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schemas(manifest: Manifest, most_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Return the schemas by name.

    Args:
        manifest: of the model.
        most_rows: in one request.
        versions: that answer, each of this manifest's form.
    """
    width = len(manifest.features)
    order = ", ".join(feature.name for feature in manifest.features[:12])
    more = f", and so on: {width} in all, in the order of Record" if width > 12 else ""
    return {
        "Number": {
            "type": "number",
            "exclusiveMinimum": -BEYOND_FLOAT32,
            "exclusiveMaximum": BEYOND_FLOAT32,
            "description": "A number whose nearest float32 is finite.",
        },
        "Row": array(ref("Number"), width, width)
        | {"description": f"The features in this order: {order}{more}."},
        "Record": members({feature.name: _feature(feature) for feature in manifest.features})
        | {"description": "The features by name, in any order."},
        "Rows": {
            "description": "Rows or records, not both in one request.",
            "anyOf": [array(ref("Row"), 0, most_rows), array(ref("Record"), 0, most_rows)],
        },
        "Model": members({"name": {"const": manifest.name}, "version": {"enum": list(versions)}}),
        **_native(manifest),
        **_v2(manifest, most_rows, versions),
        **_v1(manifest, most_rows, versions),
        "Manifest": _manifest(manifest),
        "Ready": members(
            {"status": {"const": "ready"}, "model": ref("Model"), "digest": DIGEST},
            {"problem": {"type": "string", "description": "Why a newer version does not answer."}},
        ),
        "Problem": members(
            {
                "type": {"const": "about:blank"},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {
                    "type": "string",
                    "description": "What was expected and what was found, after the place.",
                },
                "error": {
                    "type": "string",
                    "description": "The detail again, where clients of V2 and V1 read it.",
                },
                "request_id": {
                    "type": "string",
                    "description": "Stands in the log and in X-Request-ID too.",
                },
            },
            {
                "where": {
                    "type": "string",
                    "description": "The place in the request, such as instances[3][17].",
                }
            },
        )
        | {"description": "The one shape of every error: RFC 9457's members, and error."},
    }


def ref(name: str) -> Schema:
    """Point at a schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Describe an object with these members and no others."""
    properties = {**required, **(optional or {})}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    """Describe a list."""
    limits = {"minItems": least} if least else {}
    return {
        "type": "array",
        "items": items,
        **limits,
        **({} if most is None else {"maxItems": most}),
    }


def _feature(feature: Feature) -> Schema:
    """Describe a feature; the figures say what the network has seen, they are no limits."""
    least, most, median = (
        f"{float(str(np.float32(value))):.9g}"
        for value in (feature.min, feature.max, feature.median)
    )
    seen = f"{least} to {most}, median {median}"
    return ref("Number") | {"description": f"{feature.kind}; in the training rows {seen}."}


def _manifest(manifest: Manifest) -> Schema:
    """Describe GET /model: manifest.json (docs/artifact.md), and the digest."""
    number: Schema = {"type": "number"}
    feature: dict[str, Schema] = {
        "name": {"type": "string"},
        "kind": {"enum": ["float", "integer", "boolean"]},
    }
    figures = ("min", "max", "mean", "median", "std")
    metrics = {"type": "object", "additionalProperties": number}
    width = len(manifest.features)
    return members(
        {
            "digest": DIGEST,
            "format_version": {"const": manifest.format_version},
            "name": {"const": manifest.name},
            "version": {"type": "integer", "minimum": 1},
            "created": {"type": "string", "format": "date-time"},
            "task": {"const": manifest.task},
            "features": array(members(feature | dict.fromkeys(figures, number)), width, width),
            "targets": {"const": list(manifest.targets)},
            "classes": {"const": list(manifest.classes)},
            "metrics": members(dict.fromkeys(("train", "validation", "test"), metrics)),
            "baselines": {"type": "object", "additionalProperties": metrics},
            "training": {"type": "object"},
            "proof": {"type": "object"},
        }
    )


def _native(manifest: Manifest) -> dict[str, Schema]:
    """Describe POST /predict."""
    request = members({"instances": ref("Rows")})
    if manifest.task == "regression":
        targets = (
            f"A row of {', '.join(manifest.targets)} for each instance, in the target's own units."
        )
        reply = {"predictions": array(_numbers(manifest.out_features)) | {"description": targets}}
        return {
            "PredictRequest": request,
            "PredictReply": members({**reply, "model": ref("Model")}),
        }
    classes = list(manifest.classes)
    kinds = sorted({_JSON_TYPES[type(value)] for value in classes})
    reply = {
        "predictions": array(ref("Class"))
        | {"description": "The most probable class of each instance."},
        "probabilities": array(_numbers(len(classes), minimum=0, maximum=1))
        | {"description": "Of each instance, in the order of classes."},
        "classes": {"const": classes},
        "model": ref("Model"),
    }
    return {
        "PredictRequest": request,
        "PredictReply": members(reply),
        "Class": {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": classes},
    }


def _v2(manifest: Manifest, most_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Describe the Open Inference Protocol."""
    width, outputs = len(manifest.features), OUTPUTS[manifest.task]
    shape = _shape({"type": "integer", "minimum": 0, "maximum": most_rows}, width)
    nested = array(ref("Row"), 0, most_rows) | {"title": "nested"}
    flat = array(ref("Number"), 0, most_rows * width) | {"title": "flat"}
    named = [{"properties": {"name": {"const": name}}} for name in outputs]
    once = [{"contains": each, "minContains": 0, "maxContains": 1} for each in named]
    return {
        "InferRequest": members(
            {"inputs": array(ref("InferInput"), 1, 1)},
            {
                "id": {"type": "string", "description": "Comes back in the reply."},
                "model_name": {"const": manifest.name},
                "outputs": array(ref("InferRequestedOutput"), 0, len(outputs))
                | {"allOf": once, "description": "Each once; all of them where none is named."},
                "parameters": _parameters(binary_data_output={"type": "boolean"}),
            },
        ),
        "InferInput": members(
            {
                "name": {"const": INPUT},
                "datatype": {"const": "FP32"},
                "shape": shape
                | {"description": "The rows, as many as data holds, and the features."},
                "data": {"anyOf": [nested, flat]},
            },
            {"parameters": _parameters(binary_data_size=False)},
        ),
        "InferRequestedOutput": members(
            {"name": {"enum": list(outputs)}},
            {"parameters": _parameters(binary_data={"type": "boolean"})},
        ),
        "InferReply": members(
            {
                "model_name": {"const": manifest.name},
                "model_version": {"enum": list(versions)},
                "outputs": array(
                    {"anyOf": [_tensor(manifest, name) for name in outputs]}, 1, len(outputs)
                ),
            },
            {"id": {"type": "string"}},
        ),
        "ModelMetadata": members(
            {
                "name": {"const": manifest.name},
                "versions": array({"enum": list(versions)}, 1),
                "platform": {"const": v2.PLATFORM},
                "inputs": {"const": [{"name": INPUT, "datatype": "FP32", "shape": [-1, width]}]},
                "outputs": {
                    "const": [
                        {
                            "name": name,
                            "datatype": v2.DATATYPES[dtype],
                            "shape": [-1, *_columns(manifest, name)],
                        }
                        for name, dtype in outputs.items()
                    ]
                },
            }
        ),
        "ModelReady": members({"name": {"const": manifest.name}, "ready": {"const": True}}),
    }


def _parameters(**known: Any) -> Schema:
    """Describe the parameters of a request, an input or an output; those that are unknown are passed over."""
    return {
        "type": "object",
        "properties": known,
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "propertyNames": {"not": {"enum": list(v2.UNSUPPORTED)}},
    }


def _shape(rows: Schema, *columns: int) -> Schema:
    sizes = [rows, *({"const": width} for width in columns)]
    return {
        "type": "array",
        "prefixItems": sizes,
        "items": False,
        "minItems": len(sizes),
        "maxItems": len(sizes),
    }


def _tensor(manifest: Manifest, name: str) -> Schema:
    """Describe an output of V2: its data is flat, row after row."""
    columns = _columns(manifest, name)
    data = _label(manifest) if name == "label" else {"type": "number"}
    return members(
        {
            "name": {"const": name},
            "datatype": {"const": v2.DATATYPES[OUTPUTS[manifest.task][name]]},
            "shape": array({"type": "integer", "minimum": 0}, 1 + len(columns), 1 + len(columns)),
            "data": array(data),
        }
    )


def _v1(manifest: Manifest, most_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Describe TensorFlow Serving's REST API: by rows (instances, predictions) or by columns (inputs, outputs)."""
    signature = {"signature_name": {"const": "serving_default"}}
    rows = {"instances": ref("Rows"), "inputs": array(ref("Row"), 0, most_rows)}
    request = {"anyOf": [members({name: schema}, signature) for name, schema in rows.items()]}
    if manifest.task == "regression":
        by_row = by_column = array(_numbers(manifest.out_features))
    else:
        width, label = manifest.out_features, _label(manifest)
        logits, probabilities = _numbers(width), _numbers(width, minimum=0, maximum=1)
        by_row = array(members({"logits": logits, "probabilities": probabilities, "label": label}))
        by_column = members(
            {"logits": array(logits), "probabilities": array(probabilities), "label": array(label)}
        )
    reply = {"anyOf": [members({"predictions": by_row}), members({"outputs": by_column})]}
    state: dict[str, Schema] = {
        "version": {"enum": list(versions)},
        "state": {"enum": ["AVAILABLE", "UNLOADING"]},
        "status": {"const": {"error_code": "OK", "error_message": ""}},
    }
    status: dict[str, Schema] = {
        "model_version_status": array(members(state), 1),
        "name": {"const": manifest.name},
        "ready": {"type": "boolean"},
    }
    return {"V1Request": request, "V1Reply": reply, "V1Status": members(status)}


def _columns(manifest: Manifest, output: str) -> list[int]:
    return [] if output == "label" else [manifest.out_features]


def _label(manifest: Manifest) -> Schema:
    meant = "The number of the class, from 0, in the order of the model's classes."
    return {
        "type": "integer",
        "minimum": 0,
        "maximum": len(manifest.classes) - 1,
        "description": meant,
    }


def _numbers(width: int, **limits: float) -> Schema:
    return array({"type": "number", **limits}, width, width)
