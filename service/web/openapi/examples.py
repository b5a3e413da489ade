"""Examples in the document: requests, and the replies that the protocols give to them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from service.errors import BadInput
from service.protocols.messages import JSON, Request
from service.runtime.served_model import ServedModel
from service.web.openapi.schemas import Schema
from service.web.request_path import Protocol

Content = dict[str, dict[str, Any]]
"""OpenAPI's content: a schema and examples by media type."""


class Example(NamedTuple):
    """A request to show with its reply."""

    name: str
    summary: str
    request: Request


def example_row(served: ServedModel) -> list[float]:
    """Return the row of the artifact's own example."""
    instances: list[list[float]] = orjson.loads(served.predictor.example)["instances"]
    return instances[0]


def json_request(document: Mapping[str, Any]) -> Request:
    """Return a request with a JSON body."""
    return Request(orjson.dumps(document), JSON)


def content(schemas: Mapping[str, Schema]) -> Content:
    """Return OpenAPI's content of schemas by media type."""
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def add_examples(
    requests: Content,
    replies: Content,
    examples: Sequence[Example],
    protocol: Protocol,
    served: ServedModel,
) -> None:
    """Add requests and the replies to them to the contents of an operation.

    A request that the protocol refuses is left out: CSV cannot carry a feature name that begins
    with a space, for example.
    """
    for name, summary, request in examples:
        try:
            reply = protocol.answer(request, served)
        except BadInput:
            continue
        reply_type = reply.content_type.partition(";")[0]
        for target, media_type, body in (
            (requests, request.content_type, request.body),
            (replies, reply_type, reply.body),
        ):
            value = orjson.loads(body) if media_type == JSON else body.decode()
            shown = target[media_type].setdefault("examples", {})
            shown[name] = {"summary": summary, "value": value}


def format_value(value: object) -> str:
    """Return a value as the page shows it: text as it is, an object with one member per line."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    lines = (
        f"  {format_value([name])[1:-1]}: {format_value([member])[1:-1]}"
        for name, member in value.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}"
