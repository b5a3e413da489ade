"""The two protocols with rows as JSON, /predict and KServe's V1, and requests of both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.conformance.draw import Case, Draw, Group, Kind, register, summary, title
from tests.conformance.json_text import Members
from tests.conformance.outcomes import ErrorReply, Outcome
from tests.conformance.predictions import ColumnPredictions, Predictions, RowPredictions
from tests.conformance.served import Index, ServedModel

SIGNATURE = "serving_default"


@dataclass(frozen=True)
class RowProtocol:
    """A protocol whose requests have rows in a member of a JSON object."""

    name: str
    members: tuple[str, ...]
    """The members that may contain the rows."""
    path: Callable[[Draw], str]
    document: Callable[[Draw, str, Any], Members]
    """Put values into a member of a request."""
    outcome: Callable[[ServedModel, Index, str], Outcome]
    """Return the right reply to rows in a member."""


def _v1_path(draw: Draw) -> str:
    version = draw.choice(("", f"/versions/{draw.model.version}"))
    return f"/v1/models/{draw.model.name}{version}:predict"


def _v1_document(draw: Draw, member: str, values: Any) -> Members:
    members = Members([(member, values)])
    if draw.chance(0.3):
        members.append(("signature_name", SIGNATURE))
    return draw.shuffled(members)


NATIVE = RowProtocol(
    name="native",
    members=("instances",),
    path=lambda draw: "/predict",
    document=lambda draw, member, values: Members([(member, values)]),
    outcome=lambda model, index, member: Predictions(model, index),
)
V1 = RowProtocol(
    name="v1",
    members=("instances", "inputs"),
    path=_v1_path,
    document=_v1_document,
    outcome=lambda model, index, member: (
        RowPredictions(model, index) if member == "instances" else ColumnPredictions(model, index)
    ),
)
"""TensorFlow Serving's REST API, which is also KServe's V1 protocol."""

Build = Callable[[Draw, RowProtocol], Case]
"""A function that builds a request of a protocol."""


def _build(build: Build, protocol: RowProtocol, draw: Draw) -> Case:
    return build(draw, protocol)


def row_kind(group: Group, native: int, v1: int) -> Callable[[Build], Build]:
    """Register a function as a kind of both protocols, with a weight for each."""

    def decorate(build: Build) -> Build:
        for protocol, weight in ((NATIVE, native), (V1, v1)):
            name = f"{protocol.name}: {title(build)}"
            bound = partial(_build, build, protocol)
            register(Kind(name, group, weight, bound, summary(build)))
        return build

    return decorate


def predict(
    draw: Draw,
    protocol: RowProtocol,
    values: Any,
    index: Index,
    member: str = "instances",
    **options: Any,
) -> Case:
    """Send valid rows."""
    document = protocol.document(draw, member, values)
    outcome = protocol.outcome(draw.model, index, member)
    return draw.post(protocol.path(draw), draw.json(document), outcome, **options)


def reject(
    draw: Draw,
    protocol: RowProtocol,
    values: Any,
    place: str,
    text: str = "",
    *,
    status: int = 422,
    member: str = "instances",
) -> Case:
    """Send values with an error at a place below their member."""
    document = protocol.document(draw, member, values)
    outcome = ErrorReply(status, member + place, text)
    return draw.post(protocol.path(draw), draw.json(document), outcome)


def rows_or_records(
    draw: Draw, cells: list[list[Any]], member: str, cell: tuple[int, int]
) -> tuple[Any, str]:
    """Return rows as lists or, in `instances`, as records, and the place of a cell."""
    as_records = member == "instances" and draw.chance(0.4)
    place = draw.cell_path(*cell, record=as_records)
    return (list(map(draw.record, cells)) if as_records else cells), place


def malformed(draw: Draw, protocol: RowProtocol, body: bytes, status: int = 400) -> Case:
    """Send a body that is not JSON."""
    return draw.post(protocol.path(draw), body, ErrorReply(status))
