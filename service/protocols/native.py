"""POST /predict: {"instances": [...]}, CSV or float32 bytes in; predictions as JSON, CSV or float32 bytes out."""

import csv
import io
from typing import Any

import numpy as np
import orjson

from service.artifact.manifest import Manifest
from service.errors import MAX_SHOWN_CHARACTERS, UNPARSEABLE, BadInput, Refused
from service.protocols import csv_rows, json_rows, messages
from service.protocols.messages import BYTES, CSV, JSON, Reply, Request
from service.protocols.rows import rows_from_bytes, rows_from_instances
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows

FORMS = ("", "application/x-www-form-urlencoded")
"""What a body is called when nobody said what it is; the second is curl's default."""
OFFERED = (JSON, CSV, BYTES)


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer a request in the form that it accepts, JSON by default.

    Raises:
        BadInput: with the status and the place.
        Refused: 415 or 406.
    """
    form = messages.negotiate(request.accept, OFFERED) if request.accept else JSON
    inputs, place = rows(request, served)
    outputs = served.infer(inputs, place)
    manifest = served.predictor.manifest
    if form == CSV:
        return Reply(_csv(outputs, manifest), f"{CSV}; charset=utf-8")
    if form == BYTES:
        return Reply(
            np.asarray(outputs.get("probabilities", outputs.get("output")), "<f4").tobytes(), BYTES
        )
    return Reply(orjson.dumps(document(outputs, manifest), option=orjson.OPT_SERIALIZE_NUMPY))


def rows(request: Request, served: ServedModel) -> tuple[Rows, str]:
    """Parse a request's body by its media type into (rows, in_features) float32, and say how a row is called in it.

    Raises:
        BadInput: with the status and the place.
        Refused: 415, or 411 for rows that do not say their length.
    """
    body, form, features = request.body, request.content_type, served.features
    if form in FORMS and body.lstrip()[:1] == b"{":
        form = JSON
    if form == JSON:
        matrix = json_rows.rows_from_member(body, "instances", len(features), served.most_rows)
        return _instances(body, served) if matrix is None else matrix, "instances[{}]"
    if form == CSV:
        return csv_rows.rows_from_csv(
            messages.complete_body(request), features, served.most_rows
        ), "row {}"
    if form == BYTES:
        return rows_from_bytes(
            messages.complete_body(request), features, served.most_rows
        ), "row {}"
    if not body:
        raise BadInput("the body is empty", status=UNPARSEABLE)
    found = form[:MAX_SHOWN_CHARACTERS] or "no Content-Type"
    raise Refused(
        415, f"expected {JSON}, {CSV} or {BYTES}, found {found}", reason="unsupported_media_type"
    )


def document(outputs: Outputs, manifest: Manifest) -> dict[str, Any]:
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


def _instances(body: bytes, served: ServedModel) -> Rows:
    """Read records, or find what is wrong with rows."""
    found = json_rows.load_json(body, served.most_rows * len(served.features))
    if type(found) is not dict or "instances" not in found:
        raise BadInput(
            'expected an object with the member "instances": {"instances": [[...], ...]}'
        )
    if unknown := [name for name in found if name != "instances"]:
        raise BadInput(
            'expected no member beside "instances"', where=unknown[0][:MAX_SHOWN_CHARACTERS]
        )
    return rows_from_instances(found["instances"], served.features, served.most_rows)


def _csv(outputs: Outputs, manifest: Manifest) -> bytes:
    """Write a header and a line per row; numbers as JSON has them, so that they read back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if manifest.task == "regression":
        writer.writerow(f"prediction_{target}" for target in manifest.targets)
        lines = orjson.loads(orjson.dumps(outputs["output"], option=orjson.OPT_SERIALIZE_NUMPY))
    else:
        writer.writerow(["prediction", *(f"probability_{name}" for name in manifest.classes)])
        probabilities = orjson.loads(
            orjson.dumps(outputs["probabilities"], option=orjson.OPT_SERIALIZE_NUMPY)
        )
        labels = outputs["label"].tolist()
        lines = [
            [manifest.classes[label], *row]
            for label, row in zip(labels, probabilities, strict=True)
        ]
    writer.writerows(lines)
    return text.getvalue().encode()
