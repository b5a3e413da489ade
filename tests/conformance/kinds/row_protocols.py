"""The protocols with rows as JSON: /predict, and TensorFlow Serving's REST API ("V1").

A V1 request has its rows in `instances`, as in KServe's V1 protocol, or in `inputs`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.conformance.draw import Build, Case, Draw, Group, register
from tests.conformance.json_text import Members
from tests.conformance.outcomes import ErrorReply, Outcome
from tests.conformance.predictions import ColumnPredictions, Predictions, RowPredictions
from tests.conformance.served import Index, ServedModel

SIGNATURE = "serving_default"


def v1_path(draw: Draw) -> str:
    """Return the V1 path that accepts predictions, with or without the version."""
    version = draw.choice(("", f"/versions/{draw.model.version}"))
    return f"/v1/models/{draw.model.name}{version}:predict"


@dataclass(frozen=True)
class RowProtocol:
    """A protocol whose requests are JSON objects with a member for the rows."""

    name: str
    member: str
    """Name of the member with the rows."""
    outcome: Callable[[ServedModel, Index], Outcome]
    """Function from the model and the rows to the expected reply."""

    def path(self, draw: Draw) -> str:
        """Return the path that accepts predictions."""
        return "/predict" if self is NATIVE else v1_path(draw)

    def document(self, draw: Draw, values: Any) -> Members:
        """Return a request document with the given rows; a V1 document may have a signature."""
        signed = self is not NATIVE and draw.chance(0.3)
        signature = [("signature_name", draw.choice((SIGNATURE, "", None)))]
        return draw.shuffled([(self.member, values), *signature * signed])


NATIVE = RowProtocol("native", "instances", Predictions)
V1_INSTANCES = RowProtocol("v1 instances", "instances", RowPredictions)
V1_INPUTS = RowProtocol("v1 inputs", "inputs", ColumnPredictions)


def row_kind(
    group: Group, native: int, instances: int, inputs: int = 0, variants: Iterable[str] = ()
) -> Callable[[Build], Build]:
    """Register a function, or each of its variants, for every protocol whose weight is positive."""

    def decorate(build: Build) -> Build:
        weights = {NATIVE: native, V1_INSTANCES: instances, V1_INPUTS: inputs}
        for protocol, weight in weights.items():
            if weight:
                name = f"{protocol.name}: {build.__name__.replace('_', ' ')}"
                bound = partial(build, protocol=protocol)
                register(name, group, weight, bound, variants, build.__doc__)
        return build

    return decorate


def predict(
    draw: Draw,
    protocol: RowProtocol,
    values: Any,
    index: Index,
    body: bytes | None = None,
    **options: Any,
) -> Case:
    """Send valid rows: the given body, or else a document with the values."""
    body = draw.json(protocol.document(draw, values)) if body is None else body
    return draw.post(protocol.path(draw), body, protocol.outcome(draw.model, index), **options)


def reject(
    draw: Draw, protocol: RowProtocol, values: Any, place: str, text: str = "", status: int = 422
) -> Case:
    """Send values that are wrong at a place within the rows."""
    body = draw.json(protocol.document(draw, values))
    return draw.post(protocol.path(draw), body, ErrorReply(status, protocol.member + place, text))


def reject_cell(draw: Draw, protocol: RowProtocol, values: Sequence[Any], text: str) -> Case:
    """Send rows with a wrong value in one cell; in `instances`, the rows may be records."""
    cells, (i, j) = draw.cells_and_position()
    cells[i][j] = draw.choice(values)
    as_records = protocol.member == "instances" and draw.chance(0.4)
    place = draw.cell_path(i, j, record=as_records)
    return reject(draw, protocol, draw.records(cells) if as_records else cells, place, text)


def reject_body(
    draw: Draw, protocol: RowProtocol, body: bytes, outcome: ErrorReply, **options: Any
) -> Case:
    """Send a body that the service must reject."""
    return draw.post(protocol.path(draw), body, outcome, **options)
