"""Requests with rows as JSON, in the two protocols that have them."""

import json
from typing import Any

from tests.conformance import json_text
from tests.conformance.draw import Case, Draw, words
from tests.conformance.json_text import Members, Raw
from tests.conformance.kinds.row_protocols import (
    NATIVE,
    RowProtocol,
    malformed,
    predict,
    reject,
    row_kind,
    rows_or_records,
)
from tests.conformance.outcomes import JSON, ErrorReply

FLOAT32_OVERFLOW = "3.4028235677973366e38"
"""The smallest number that rounds to infinity in float32: half a step above its maximum."""
TOO_LARGE = (
    *("1e39", "-1e39", FLOAT32_OVERFLOW, "-3.5E+38", "1e308", "9" * 40, "-1" + "0" * 39),
    "1.7976931348623157e308",
)
NOT_NUMBERS: tuple[Any, ...] = (
    *(True, False, None, "1", "", "NaN", "1e3", "\u00e9"),
    *([], [1], {}, {"a": 1}, [[1]], {"b64": "aGVsbG8="}),
)
NOT_JSON_NUMBERS = (
    *words("NaN Infinity -Infinity nan inf -nan +1 01 -01 .5 5. 1e 1e+ - --1 0x10 1_000 1,5, 1f"),
    *words("1.0f '1' True None undefined /**/1 \\u0031"),
    *("1 2", "//\n1", "1e400", "-1e309", "1e99999", "9" * 400, "-" + "8" * 5000, "1.8e308"),
)
"""Numbers that JSON lacks, and numbers beyond float64, the range of RFC 8259, section 6."""
NESTED_NUMBERS = tuple(
    Raw(opening * depth + "1" + closing * depth)
    for depth in (1, 2, 3, 10, 100)
    for opening, closing in (("[", "]"), ('{"a":', "}"))
)
NOT_JSON = (
    *(b"", b" ", b"\n\t ", b"{", b"[", b'"', b"{]", b"{}}", b"null,", b"{'instances': []}"),
    *(b"{instances: []}", b'{"instances": [],}', b'{"instances": []} {"instances": []}'),
    *(b'{"instances" []}', b'{"instances": []', b"\x00", b'{"instances": []}\x00', b"{,}"),
    *('{"instances": []}'.encode(encoding) for encoding in ("utf-8-sig", "utf-16", "utf-32")),
    *(b'{"instances": [] // none\n}', b"instances = [1, 2]", b"<a/>", b"{:1}", b'{"\xff": 1}'),
    *(b'{"a": "\xc3\x28"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\\ud800"}', b'{"a": "\\x41"}'),
    *(b'{"a": "\n"}', b'{"a": "\x00"}', b'{"a": tru}', b'{"instances": [[1, 2]}'),
    *(b'{"instances": [1 2]}', b"\xff\xfe"),
)
ZEROS = (
    *("0", "-0", "0.0", "-0.0", "0e5", "1e-60", "-1e-400", "0.000", "0E-0", "1e-99999"),
    "0." + "0" * 300 + "1",
)
CONTENT_TYPES = (
    *(JSON, "application/json; charset=utf-8", "Application/JSON", "application/json;"),
    *("application/json;charset=UTF-8 ; a=b", "application/x-www-form-urlencoded", "", None),
)
"""Values of Content-Type for JSON; curl sends the form type, and some clients send none."""
NOT_ACCEPTABLE = (
    *("text/html", "image/*", "application/xml, text/plain", "application/json;q=0", "*/*;q=0"),
    *("text/csv;q=0.0", "application/jsonx", "json", "text/csvx, applications/json"),
)
UNSUPPORTED_TYPES = (
    *("text/plain", "application/xml", "multipart/form-data; boundary=x", "text/json", "json"),
    *("application/x-protobuf", "application/vnd.api+json", "application/python-pickle"),
    *("application/json2", "*/*", "text/csvx", "a/b/c", "application/cloudevents+json"),
    *("application/avro", "image/png"),
)


@row_kind("valid", 20, 8, 6)
def rows(draw: Draw, protocol: RowProtocol) -> Case:
    """Rows in the order of the features, with numbers and white space in every form of JSON."""
    index = draw.index()
    return predict(draw, protocol, draw.cells(index), index)


@row_kind("valid", 10, 4)
def records(draw: Draw, protocol: RowProtocol) -> Case:
    """Records by feature name, with the members in any order."""
    index = draw.index()
    return predict(draw, protocol, list(map(draw.record, draw.cells(index))), index)


@row_kind("valid", 1, 1, 1)
def no_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """No rows, as in JsontensorTest.FromJsonSingleZeroBatchTensor of TF Serving."""
    return predict(draw, protocol, [], draw.index()[:0])


@row_kind("valid", 1, 1, 1)
def maximum_number_of_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """As many rows as the limit allows, as in http_input_size_limit_test.py of Triton's L0_http."""
    index = draw.index(at_least=draw.model.max_rows)
    return predict(draw, protocol, draw.numbers(index), index)


@row_kind("valid", 1, 1, 1)
def body_of_maximum_size(draw: Draw, protocol: RowProtocol) -> Case:
    """A body of exactly as many bytes as the limit allows."""
    index = draw.index(at_most=33)
    body = draw.json({protocol.member: draw.numbers(index)}).ljust(draw.model.limits.body_bytes)
    framing = draw.choice(("length", "chunked", "gzip", "zlib"))
    outcome = protocol.outcome(draw.model, index)
    return draw.post(protocol.path(draw), body, outcome, framing=framing)


@row_kind("valid", 3, 1, 1)
def any_content_type_for_json(draw: Draw, protocol: RowProtocol) -> Case:
    """JSON under any usual Content-Type, or under none if the body begins with a brace."""
    index = draw.index()
    body = draw.choice((b"", b" ", b"\r\n\t")) + draw.json({protocol.member: draw.cells(index)})
    outcome = protocol.outcome(draw.model, index)
    content_type = draw.choice(CONTENT_TYPES)
    return draw.post(protocol.path(draw), body, outcome, content_type=content_type)


@row_kind("valid", 2, 1, 1)
def key_with_escapes(draw: Draw, protocol: RowProtocol) -> Case:
    r"""A key with \u escapes, which is the same key."""
    index = draw.index()
    key = "".join(f"\\u{ord(c):04x}" if draw.chance(0.4) else c for c in protocol.member)
    body = b'{"' + key.encode() + b'":' + draw.json(draw.cells(index)) + b"}"
    return draw.post(protocol.path(draw), body, protocol.outcome(draw.model, index))


@row_kind("valid", 2, 1, 1)
def numbers_that_round_to_zero(draw: Draw, protocol: RowProtocol) -> Case:
    """Zeros, and numbers too small for float32 or float64."""
    cells = [Raw(draw.choice(ZEROS)) for _ in draw.model.features]
    return predict(draw, protocol, [cells], draw.model.zero)


@row_kind("nearly valid", 12, 4, 4)
def no_number(draw: Draw, protocol: RowProtocol) -> Case:
    """A boolean, string, null, list or object; JsontensorTest.SingleUnnamedTensorErrors."""
    index = draw.index()
    cells, (i, j) = draw.cells(index), draw.position(index)
    cells[i][j] = draw.choice((*NOT_NUMBERS, *NESTED_NUMBERS))
    values, place = rows_or_records(draw, protocol, cells, (i, j))
    return reject(draw, protocol, values, place, "expected a number")


@row_kind("nearly valid", 4, 1, 1)
def number_beyond_float32(draw: Draw, protocol: RowProtocol) -> Case:
    """A number finite in JSON and infinite in float32, such as the DBL_MAX of JsontensorTest."""
    index = draw.index()
    cells, (i, j) = draw.cells(index), draw.position(index)
    cells[i][j] = Raw(draw.choice(TOO_LARGE))
    values, place = rows_or_records(draw, protocol, cells, (i, j))
    return reject(draw, protocol, values, place, "float32")


@row_kind("nearly valid", 2, 1, 1)
def row_that_overflows(draw: Draw, protocol: RowProtocol) -> Case:
    """A finite row whose output is infinite, which fails the whole request."""
    values, i = draw.overflow(draw.index())
    return reject(draw, protocol, values, f"[{i}]", "float32")


@row_kind("nearly valid", 4, 2, 1)
def row_of_wrong_width(draw: Draw, protocol: RowProtocol) -> Case:
    """A row too short or too long; 'Expecting tensor size' of TF Serving's JsontensorTest."""
    index = draw.index()
    cells, (i, j) = draw.cells(index), draw.position(index)
    row = cells[i]
    cells[i] = draw.choice((row[:-1], row + row[j:], [], row * 2, row[:j]))
    counts = f"expected {len(draw.model.features)} values, found {len(cells[i])}"
    return reject(draw, protocol, cells, f"[{i}]", counts)


@row_kind("nearly valid", 2, 1, 1)
def value_instead_of_a_row(draw: Draw, protocol: RowProtocol) -> Case:
    """A scalar among the rows; 'Expecting shape' of TF Serving's JsontensorTest has [1, [1]]."""
    index = draw.index()
    values: list[Any] = draw.cells(index)
    i = draw.position(index)[0]
    values[i] = draw.choice((1, 1.5, "a", None, True))
    return reject(draw, protocol, values, f"[{i}]", "expected a list")


@row_kind("nearly valid", 2, 1)
def rows_mixed_with_records(draw: Draw, protocol: RowProtocol) -> Case:
    """'Expecting object but got list' of JsontensorTest.MultipleNamedTensorErrors, and reverse."""
    index = draw.index(at_least=2)
    (i, _), records_first = draw.position(index, at_least_row=1), draw.chance(0.5)
    values = [
        draw.record(row) if (position < i) == records_first else row
        for position, row in enumerate(draw.cells(index))
    ]
    return reject(draw, protocol, values, f"[{i}]")


@row_kind("nearly valid", 2, 1, 1)
def value_instead_of_a_list(draw: Draw, protocol: RowProtocol) -> Case:
    """KServe's TestModel.test_validate sends {"instances": "invalid"}."""
    value = draw.choice(("invalid", 1, None, True, {}, {"a": [1]}, 1.5, ""))
    return reject(draw, protocol, value, "", "expected a list")


@row_kind("nearly valid", 2, 2)
def document_without_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """JSON other than an object with a member for rows."""
    document = draw.choice(
        ([], [[1, 2]], {}, {"instance": []}, {"Instances": []}, 1, "instances", None, {"": 1})
    )
    outcome = ErrorReply(422, None, '"instances"')
    return draw.post(protocol.path(draw), draw.json(document), outcome)


@row_kind("nearly valid", 2, 1)
def feature_missing(draw: Draw, protocol: RowProtocol) -> Case:
    """A record without one of the features."""
    index = draw.index()
    values, (i, j) = list(map(draw.record, draw.cells(index))), draw.position(index)
    feature = draw.model.features[j]
    values[i] = Members(pair for pair in values[i] if pair[0] != feature)
    return reject(draw, protocol, values, f"[{i}]", f"missing feature '{feature}'")


@row_kind("nearly valid", 2, 1)
def feature_unknown(draw: Draw, protocol: RowProtocol) -> Case:
    """A record with an additional feature, or with one under another name."""
    index = draw.index()
    values, (i, j) = list(map(draw.record, draw.cells(index))), draw.position(index)
    name = draw.model.features[j]
    other = draw.choice((name + " ", name.upper() + "X", "", "label", name[:-1], name + "\u0301"))
    if draw.chance(0.5):
        values[i] = Members((other if pair[0] == name else pair[0], pair[1]) for pair in values[i])
    else:
        values[i].append((other, 1))
    return reject(draw, protocol, values, f"[{i}]", f"unknown feature '{other}'")


@row_kind("nearly valid", 3, 1, 1)
def too_many_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """More rows than the limit allows, in a body that is not too large."""
    limit, features = draw.model.max_rows, draw.model.features
    count = draw.choice((limit + 1, limit + 2, limit * 3))
    rows: Any = draw.choice(([[0] * len(features)] * count, [[]] * count))
    if protocol.member == "instances" and draw.chance(0.3):
        rows = [dict.fromkeys(features, 0)] * (limit + 1)
    body = json_text.text({protocol.member: rows}, "").encode()
    return draw.post(protocol.path(draw), body, ErrorReply(413, protocol.member, str(limit)))


@row_kind("nearly valid", 1, 1, 1)
def member_twice(draw: Draw, protocol: RowProtocol) -> Case:
    """The member with the rows twice, so its meaning is ambiguous."""
    cells, member = draw.json(draw.cells(draw.index(at_most=7))), protocol.member
    first = f"\\u{ord(member[0]):04x}{member[1:]}" if draw.chance(0.5) else member
    body = b'{"%b":%b,"%b":%b}' % (first.encode(), cells, member.encode(), cells)
    return draw.post(protocol.path(draw), body, ErrorReply(400, None, f'"{member}"'))


@row_kind("nearly valid", 2, 1)
def feature_twice(draw: Draw, protocol: RowProtocol) -> Case:
    """A record with a feature twice, so its meaning is ambiguous."""
    index = draw.index()
    values, (i, j) = list(map(draw.record, draw.cells(index))), draw.position(index)
    repeated = (draw.model.features[j], draw.choice((1, "a", None)))
    values[i].insert(draw.random.randrange(len(values[i])), repeated)
    key = json.dumps(draw.model.features[j], ensure_ascii=False)
    return reject(draw, protocol, values, f"[{i}]", key, status=400)


@row_kind("nearly valid", 3, 1)
def nothing_acceptable(draw: Draw, protocol: RowProtocol) -> Case:
    """406 if Accept excludes every form; the error itself is still JSON."""
    body = draw.json({"instances": draw.cells(draw.index())})
    headers = [("Accept", draw.choice(NOT_ACCEPTABLE))]
    return draw.post(protocol.path(draw), body, ErrorReply(406, None, "Accept"), headers=headers)


@row_kind("nearly valid", 4, 1)
def unsupported_content_type(draw: Draw, protocol: RowProtocol) -> Case:
    """415 that names the supported types; KServe's suite sends CloudEvents and Avro."""
    body = draw.choice((b"1,2", b"[[1, 2]]", b"\x80\x04", b"<a/>"))
    types: tuple[str | None, ...] = UNSUPPORTED_TYPES
    if protocol is NATIVE:
        # Under these, /predict takes only a body that begins with a brace for JSON.
        types = (*types, None, "application/x-www-form-urlencoded")
    outcome = ErrorReply(415, None, JSON)
    return draw.post(protocol.path(draw), body, outcome, content_type=draw.choice(types))


@row_kind("hostile", 3, 1, 1)
def nested_too_deep(draw: Draw, protocol: RowProtocol) -> Case:
    """Deeper nesting than a parser allows; nested_json_crash.py of Triton's L0_http."""
    depth = draw.choice((1100, 1300, 30_000))
    status = 413 if depth == 30_000 else 400
    opening, closing = draw.choice((("[", "]"), ("[", ""), ('{"a":', "}"), ("[[],", "]")))
    depth = min(depth, 60_000 // (len(opening) + len(closing)))
    nested = opening * depth + "1" + closing * depth
    body = draw.choice((f'{{"instances": [[{nested}]]}}', nested, f'{{"instances": {nested}}}'))
    return malformed(draw, protocol, body.encode(), status)


@row_kind("hostile", 8, 2, 2)
def number_outside_json(draw: Draw, protocol: RowProtocol) -> Case:
    """NaN, Infinity, hexadecimal, leading zeros: Python's own parser accepts some of them."""
    index = draw.index(at_most=7)
    cells, (i, j) = draw.cells(index), draw.position(index)
    cells[i][j] = Raw(draw.choice(NOT_JSON_NUMBERS))
    return malformed(draw, protocol, draw.json(protocol.document(draw, cells)))


@row_kind("hostile", 6, 2)
def body_that_is_not_json(draw: Draw, protocol: RowProtocol) -> Case:
    """An empty body and `instances = [1, 2]`, as in TF Serving's PredictRequestErrors, and more."""
    return malformed(draw, protocol, draw.choice((*NOT_JSON, b"0\x80\x80\x06World!\x00\x00")))


@row_kind("hostile", 5, 1, 1)
def damaged_document(draw: Draw, protocol: RowProtocol) -> Case:
    """KServe's test_infer_request_from_bytes_invalid_json: truncated; or invalid UTF-8."""
    body = draw.json({protocol.member: draw.cells(draw.index(at_most=7))}).strip()
    cut = draw.random.randrange(1, len(body))
    invalid = draw.choice((b"\xff", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"))
    rest = b"" if draw.chance(0.6) else invalid + body[cut:]
    return malformed(draw, protocol, body[:cut] + rest)
