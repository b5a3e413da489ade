"""POST /predict: the media types of replies, and members that the document must not have."""

from tests.conformance.draw import Case, Draw, kind
from tests.conformance.kinds.row_protocols import NATIVE, predict
from tests.conformance.outcomes import BYTES, CSV, JSON, PROBLEM, ErrorReply
from tests.conformance.predictions import Predictions

PATH = "/predict"
ACCEPTED: dict[str, str] = {
    "": JSON,
    "*/*": JSON,
    "application/json": JSON,
    "APPLICATION/JSON": JSON,
    "text/csv": CSV,
    "application/octet-stream": BYTES,
    "text/*": CSV,
    "application/*": JSON,
    "text/csv;q=0.5, application/json;q=0.4": CSV,
    "text/csv;q=0.4, application/json;q=0.5": JSON,
    "application/octet-stream, */*;q=0.1": BYTES,
    "text/html, */*;q=0.1": JSON,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": JSON,
    "*/*, application/json;q=0": CSV,
    "application/*, application/json;q=0": BYTES,
    "text/csv , application/json ; q=0.999": CSV,
    "application/json;q=0.2, text/csv;q=0.3, application/octet-stream;q=0.25": CSV,
    "application/problem+json, application/json": JSON,
    "application/xml, text/csv; q=0.001": CSV,
}
"""The media type for each Accept (RFC 9110, 12.5.1); ties go to JSON, then CSV, then bytes."""


@kind("valid", 8)
def accept_decides_the_reply(draw: Draw) -> Case:
    """Accept chooses between JSON, CSV and float32 bytes."""
    index, accept = draw.index(), draw.choice(list(ACCEPTED))
    outcome = Predictions(draw.model, index, ACCEPTED[accept])
    body = draw.json({"instances": draw.cells(index)})
    return draw.post(PATH, body, outcome, headers=[("Accept", accept)])


@kind("valid", 1)
def accept_with_a_thousand_ranges(draw: Draw) -> Case:
    """An Accept as long as the host allows."""
    index = draw.index()
    ranges = 'application/x;q=0.1, text/*;q=0.2;x="y", ' * 1000 + "application/json;q=0.3"
    return predict(draw, NATIVE, draw.cells(index), index, headers=[("Accept", ranges)])


@kind("nearly valid", 3)
def error_as_problem_json(draw: Draw) -> Case:
    """application/problem+json for a client that prefers it, also if it accepts nothing else."""
    preferred = (f"{PROBLEM}, */*", f"{PROBLEM};q=0.9, {JSON}", f" {PROBLEM} , text/csv")
    accept, body, status = draw.choice(preferred), b"{", 400
    if draw.chance(0.3):
        accept, body, status = PROBLEM, b'{"instances": []}', 406
    outcome = ErrorReply(status, media_type=PROBLEM)
    return draw.post(PATH, body, outcome, headers=[("Accept", accept)])


@kind("nearly valid", 2)
def unknown_member(draw: Draw) -> Case:
    """A second member, which the service must not ignore."""
    others = ("inputs", "id", "parameters", "Instances", "instances ", "\u00e9", "signature_name")
    other, rows = draw.choice(others), draw.cells(draw.index())
    members = {"instances": rows, other: draw.choice((1, None, [], "a"))}
    document = draw.shuffled(members.items())
    return draw.post(PATH, draw.json(document), ErrorReply(422, other, '"instances"'))
