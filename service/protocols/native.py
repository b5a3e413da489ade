"""The protocol of POST /predict: requests and replies in JSON, CSV or raw numbers."""

import csv
import io
from codecs import BOM_UTF8
from typing import Any

import numpy as np
import orjson

from service.artifact.manifest import Manifest
from service.errors import MAX_SHOWN_CHARACTERS, UNPARSEABLE, BadInput, Refused
from service.protocols import byte_rows, csv_rows, json_rows, messages
from service.protocols.byte_rows import rows_from_bytes
from service.protocols.messages import BYTES, CSV, CURL_DEFAULT, JSON, Reply, Request
from service.protocols.rows import Place, rows_from_instances
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows

UNSPECIFIC_MEDIA_TYPES = ("", CURL_DEFAULT)
"""Content types under which a body that begins with { is read as JSON."""
REPLY_MEDIA_TYPES = (JSON, CSV, BYTES)


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer a request in the media type that it accepts, JSON by default."""
    media_type = messages.negotiate(request.accept, REPLY_MEDIA_TYPES) if request.accept else JSON
    inputs, place = rows(request, served)
    outputs = served.infer(inputs, place)
    manifest = served.predictor.manifest
    if media_type == CSV:
        return Reply(_write_csv(outputs, manifest), f"{CSV}; charset=utf-8")
    if media_type == BYTES:
        values = outputs.get("probabilities", outputs.get("output"))
        return Reply(np.asarray(values, "<f4").tobytes(), BYTES)
    return Reply(orjson.dumps(document(outputs, manifest), option=orjson.OPT_SERIALIZE_NUMPY))


def rows(request: Request, served: ServedModel) -> tuple[Rows, Place]:
    """Return (rows, in_features) float32, and a function that names the place of a row."""
    body, media_type, features = request.body, request.content_type, served.features
    if media_type in UNSPECIFIC_MEDIA_TYPES and body.removeprefix(BOM_UTF8).lstrip()[:1] == b"{":
        media_type = JSON
    if media_type == JSON:
        matrix = json_rows.rows_from_member(body, "instances", len(features), served.max_rows)
        return _parse_instances(body, served) if matrix is None else matrix, "instances[{}]".format
    if media_type == CSV:
        body = messages.complete_body(request)
        matrix, lines = csv_rows.rows_from_csv(body, features, served.max_rows)
        return matrix, lambda row: f"line {lines[row]}"
    if media_type == BYTES:
        dtype, count = byte_rows.read_layout(request.parameters)
        body = messages.complete_body(request)
        return rows_from_bytes(body, features, served.max_rows, dtype, count), "row {}".format
    if not body:
        raise BadInput("the body is empty", status=UNPARSEABLE)
    header = media_type[:MAX_SHOWN_CHARACTERS] or "no Content-Type"
    detail = f"expected {JSON}, {CSV} or {BYTES}, found {header}"
    raise Refused(415, detail, reason="unsupported_media_type")


def document(outputs: Outputs, manifest: Manifest) -> dict[str, Any]:
    """Return the JSON document of a reply, in which numbers are NumPy arrays for orjson."""
    model = {"name": manifest.name, "version": str(manifest.version)}
    if manifest.task == "regression":
        return {"predictions": outputs["output"], "model": model}
    return {
        "predictions": [manifest.classes[label] for label in outputs["label"].tolist()],
        "probabilities": outputs["probabilities"],
        "classes": manifest.classes,
        "model": model,
    }


def _parse_instances(body: bytes, served: ServedModel) -> Rows:
    """Parse rows or records with the strict parser, which raises BadInput at the first error."""
    content = json_rows.load_json(body, served.max_rows * len(served.features))
    if type(content) is not dict or "instances" not in content:
        detail = 'expected an object with the member "instances": {"instances": [[...], ...]}'
        raise BadInput(detail)
    if unknown := [name for name in content if name != "instances"]:
        where = unknown[0][:MAX_SHOWN_CHARACTERS]
        raise BadInput('expected no member other than "instances"', where=where)
    return rows_from_instances(content["instances"], served.features, served.max_rows)


def _write_csv(outputs: Outputs, manifest: Manifest) -> bytes:
    """Write a header and a line per row, with numbers that read back to the same float32 bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if manifest.task == "regression":
        writer.writerow(f"prediction_{target}" for target in manifest.targets)
        writer.writerows(_shortest_decimals(outputs["output"]))
    else:
        writer.writerow(["prediction", *(f"probability_{name}" for name in manifest.classes)])
        labels = outputs["label"].tolist()
        for label, row in zip(labels, _shortest_decimals(outputs["probabilities"]), strict=True):
            writer.writerow([manifest.classes[label], *row])
    return text.getvalue().encode()


def _shortest_decimals(values: Rows) -> list[list[float]]:
    """Return the shortest decimals that round to the same float32, as orjson writes them."""
    rows: list[list[float]] = orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))
    return rows
