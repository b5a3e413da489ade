"""JSON Schemas of the requests and replies of each protocol."""

from collections.abc import Sequence

from service.artifact.manifest import INPUT, OUTPUTS, Manifest
from service.protocols import tfserving, v2
from service.protocols.v2_request import UNSUPPORTED_PARAMETERS, Document
from service.web.openapi.schemas import (
    COUNT,
    NUMBER,
    STRING,
    Schema,
    array,
    described,
    members,
    ref,
)

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_BOOLEAN: Schema = {"type": "boolean"}


def native_schemas(manifest: Manifest) -> dict[str, Schema]:
    """Return the schemas of POST /predict by name."""
    request = members({"instances": ref("Rows")})
    if manifest.task == "regression":
        text = f"A row of {', '.join(manifest.targets)} per instance, in the targets' units."
        predictions = described(array(_numbers(manifest.out_features)), text)
        reply = members({"predictions": predictions, "model": ref("Model")})
        return {"PredictRequest": request, "PredictReply": reply}
    classes = list(manifest.classes)
    types = sorted({_JSON_TYPES[type(value)] for value in classes})
    probabilities = array(_numbers(len(classes), minimum=0, maximum=1))
    reply = members(
        {
            "predictions": described(array(ref("Class")), "The most probable class per instance."),
            "probabilities": described(
                probabilities, "The probabilities per instance, in the order of classes."
            ),
            "classes": {"const": classes},
            "model": ref("Model"),
        }
    )
    return {
        "PredictRequest": request,
        "PredictReply": reply,
        "Class": {"type": types[0] if len(types) == 1 else types, "enum": classes},
    }


def v2_schemas(manifest: Manifest, max_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Return the schemas of the Open Inference Protocol by name."""
    return _infer_request(manifest, max_rows) | _infer_reply(manifest, versions)


def v1_schemas(manifest: Manifest, max_rows: int, versions: Sequence[str]) -> dict[str, Schema]:
    """Return the schemas of TensorFlow Serving's REST API by name."""
    signature: dict[str, Schema] = {"signature_name": {"const": tfserving.SIGNATURE}}
    rows = {"instances": ref("Rows"), "inputs": array(ref("Row"), 0, max_rows)}
    request = {"anyOf": [members({name: schema}, signature) for name, schema in rows.items()]}
    if manifest.task == "regression":
        by_row = by_output = array(_numbers(manifest.out_features))
    else:
        width = manifest.out_features
        row = {
            "logits": _numbers(width),
            "probabilities": _numbers(width, minimum=0, maximum=1),
            "label": _label(manifest),
        }
        by_row = array(members(row))
        by_output = members({name: array(schema) for name, schema in row.items()})
    reply = {"anyOf": [members({"predictions": by_row}), members({"outputs": by_output})]}
    state: dict[str, Schema] = {
        "version": {"enum": list(versions)},
        "state": {"enum": ["AVAILABLE", "UNLOADING"]},
        "status": {"const": {"error_code": "OK", "error_message": ""}},
    }
    status = {"model_version_status": array(members(state), 1), "name": {"const": manifest.name}}
    return {
        "V1Request": request,
        "V1Reply": reply,
        "V1Status": members(status | {"ready": _BOOLEAN}),
    }


def _infer_request(manifest: Manifest, max_rows: int) -> dict[str, Schema]:
    width, outputs = len(manifest.features), list(OUTPUTS[manifest.task])
    sizes = [{"type": "integer", "minimum": 0, "maximum": max_rows}, {"const": width}]
    shape = {"type": "array", "prefixItems": sizes, "items": False, "minItems": 2, "maxItems": 2}
    nested = array(ref("Row"), 0, max_rows) | {"title": "nested"}
    flat = array(ref("Number"), 0, max_rows * width) | {"title": "flat"}
    named = [{"properties": {"name": {"const": name}}} for name in outputs]
    once = [{"contains": each, "minContains": 0, "maxContains": 1} for each in named]
    requested = array(ref("InferRequestedOutput"), 0, len(outputs)) | {"allOf": once}
    return {
        "InferRequest": members(
            {"inputs": array(ref("InferInput"), 1, 1)},
            {
                "id": described(STRING, "Returned in the reply."),
                "model_name": {"const": manifest.name},
                "outputs": described(requested, "Each at most once; all outputs by default."),
                "parameters": _parameters(binary_data_output=_BOOLEAN),
            },
        ),
        "InferInput": members(
            {
                "name": {"const": INPUT},
                "datatype": {"const": "FP32"},
                "shape": described(shape, "The number of rows in data, and of features."),
                "data": {"anyOf": [nested, flat]},
            },
            {"parameters": _parameters(binary_data_size=False)},
        ),
        "InferRequestedOutput": members(
            {"name": {"enum": outputs}}, {"parameters": _parameters(binary_data=_BOOLEAN)}
        ),
    }


def _infer_reply(manifest: Manifest, versions: Sequence[str]) -> dict[str, Schema]:
    name: Schema = {"const": manifest.name}
    version: Schema = {"enum": list(versions)}
    metadata = v2.model_metadata(manifest)
    constants = {
        member: {"const": metadata[member]} for member in ("platform", "inputs", "outputs")
    }
    tensors = {"anyOf": [_tensor(manifest, output) for output in metadata["outputs"]]}
    outputs = array(tensors, 1, len(metadata["outputs"]))
    reply = {"model_name": name, "model_version": version, "outputs": outputs}
    return {
        "InferReply": members(reply, {"id": STRING}),
        "ModelMetadata": members({"name": name, "versions": array(version, 1), **constants}),
        "ModelReady": members({"name": name, "ready": {"const": True}}),
    }


def _tensor(manifest: Manifest, output: Document) -> Schema:
    """Return the schema of an output of V2, whose data is flat, row after row."""
    dimensions = len(output["shape"])
    return members(
        {
            "name": {"const": output["name"]},
            "datatype": {"const": output["datatype"]},
            "shape": array(COUNT, dimensions, dimensions),
            "data": array(_label(manifest) if output["name"] == "label" else NUMBER),
        }
    )


def _parameters(**known: Schema | bool) -> Schema:
    """Return the schema of V2's parameters; the service ignores those that it does not know."""
    return {
        "type": "object",
        "properties": known,
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "propertyNames": {"not": {"enum": list(UNSUPPORTED_PARAMETERS)}},
    }


def _label(manifest: Manifest) -> Schema:
    text = "Index of the class, from 0, in the order of the model's classes."
    return described(COUNT | {"maximum": len(manifest.classes) - 1}, text)


def _numbers(width: int, **limits: float) -> Schema:
    return array(NUMBER | limits, width, width)
