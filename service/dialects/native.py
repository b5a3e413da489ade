"""POST /predict: {"instances": [...]}, CSV or float32 bytes in, {"predictions": [...], "model": {...}} out."""

from typing import Any

from service import payload
from service.manifest import Manifest
from service.payload import UNPARSEABLE, BadInput, Rows
from service.predictor import Outputs

JSON = "application/json"
UNSUPPORTED = 415
ROWS_ONLY = ("text/csv", "application/octet-stream")
"""Forms whose rows have no other place than their number, from 0."""
FORMS = ("", "application/x-www-form-urlencoded")
"""What a body is called when nobody said what it is; the second is curl's default."""


def rows(body: bytes, content_type: str, manifest: Manifest) -> Rows:
    """Parse a request body by its media type into (rows, in_features) float32.

    Raises:
        BadInput: with the status and the place.
    """
    features = tuple(feature.name for feature in manifest.features)
    if content_type in FORMS and body.lstrip()[:1] == b"{":
        content_type = JSON
    match content_type:
        case "application/json":
            document = payload.load_json(body)
            if type(document) is not dict or "instances" not in document:
                raise BadInput('expected an object with the member "instances": {"instances": [[...], ...]}')
            if unknown := [name for name in document if name != "instances"]:
                raise BadInput('expected no member beside "instances"', where=unknown[0])
            return payload.from_instances(document["instances"], features)
        case "text/csv":
            return payload.from_csv(body, features)
        case "application/octet-stream":
            return payload.from_bytes(body, features)
    if not body:
        raise BadInput("the body is empty", status=UNPARSEABLE)
    raise BadInput(
        f"expected {JSON}, text/csv or application/octet-stream, found {content_type or 'no Content-Type'}",
        status=UNSUPPORTED,
    )


def reply(outputs: Outputs, manifest: Manifest) -> dict[str, Any]:
    """Shape the outputs of the predictor as the reply's JSON document; arrays stay arrays."""
    model = {"name": manifest.name, "version": str(manifest.version)}
    if manifest.task == "regression":
        return {"predictions": outputs["output"], "model": model}
    return {
        "predictions": [manifest.classes[label] for label in outputs["label"].tolist()],
        "probabilities": outputs["probabilities"],
        "classes": manifest.classes,
        "model": model,
    }
