"""Requests with rows as JSON, in the native protocol and in V1."""

import json
from codecs import BOM_UTF8
from typing import Any, Literal
from unicodedata import normalize

from tests.conformance import json_text
from tests.conformance.draw import Case, Draw, words
from tests.conformance.json_text import Members, Raw
from tests.conformance.kinds.row_protocols import (
    NATIVE,
    RowProtocol,
    predict,
    reject,
    reject_body,
    reject_cell,
    row_kind,
)
from tests.conformance.outcomes import JSON, ErrorReply

FLOAT32_OVERFLOW = "3.4028235677973366e38"
"""The smallest number that float32 rounds to infinity, half a step above its maximum."""
TOO_LARGE = (
    *("1e39", "-1e39", FLOAT32_OVERFLOW, "-3.5E+38", "1e308", "9" * 40, "-1" + "0" * 39),
    "1.7976931348623157e308",
)
NOT_NUMBERS: tuple[Any, ...] = (
    *(True, False, None, "1", "", "NaN", "1e3", "\u00e9"),
    *([], [1], {}, {"a": 1}, [[1]], {"b64": "aGVsbG8="}),
)
NOT_JSON_NUMBERS = (
    *words("nan inf -nan +1 01 -01 .5 5. 1e 1e+ - --1 0x10 1_000 1,5, 1f"),
    *words("1.0f '1' True None undefined /**/1 \\u0031"),
    *("1 2", "//\n1", "1e400", "-1e309", "1e99999", "9" * 400, "-" + "8" * 5000, "1.8e308"),
)
"""Texts that are not JSON numbers, and numbers beyond float64 (RFC 8259, section 6)."""
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Numbers that Python's json writes, although JSON does not have them."""
NESTED_NUMBERS = tuple(
    Raw(opening * depth + "1" + closing * depth)
    for depth in (1, 2, 3, 10, 100)
    for opening, closing in (("[", "]"), ('{"a":', "}"))
)
WRONG_CELLS: dict[str, tuple[tuple[Any, ...], str]] = {
    "no number": ((*NOT_NUMBERS, *NESTED_NUMBERS), "expected a number"),
    "beyond float32": (tuple(map(Raw, TOO_LARGE)), "float32"),
    "not finite": (tuple(map(Raw, NOT_FINITE)), "replace it"),
}
"""Wrong cells, and a part of the error message, by variant."""
NOT_JSON = (
    *(b"", b" ", b"\n\t ", b"{", b"[", b'"', b"{]", b"{}}", b"null,", b"{'instances': []}"),
    *(b"{instances: []}", b'{"instances": [],}', b'{"instances": []} {"instances": []}'),
    *(b'{"instances" []}', b'{"instances": []', b"\x00", b'{"instances": []}\x00', b"{,}"),
    *('{"instances": []}'.encode(encoding) for encoding in ("utf-16", "utf-32")),
    *(b'{"instances": [] // none\n}', b"instances = [1, 2]", b"<a/>", b"{:1}", b'{"\xff": 1}'),
    *(b'{"a": "\xc3\x28"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\\ud800"}', b'{"a": "\\x41"}'),
    *(b'{"a": "\n"}', b'{"a": "\x00"}', b'{"a": tru}', b'{"instances": [[1, 2]}'),
    *(b'{"instances": [1 2]}', b"\xff\xfe", b"0\x80\x80\x06World!\x00\x00"),
)
UNUSUAL_BODIES = ("maximum size", "any content type", "escapes in the key", "byte-order mark")
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
    """Rows in the order of the features, in all number formats and with white space."""
    index = draw.index()
    return predict(draw, protocol, draw.cells(index), index)


@row_kind("valid", 10, 4)
def records(draw: Draw, protocol: RowProtocol) -> Case:
    """Rows as objects by feature name, with the members in any order."""
    index = draw.index()
    return predict(draw, protocol, draw.records(draw.cells(index)), index)


@row_kind("valid", 2, 1, variants=("NFC", "NFD"))
def names_in_another_spelling(
    draw: Draw, protocol: RowProtocol, variant: Literal["NFC", "NFD"]
) -> Case:
    """Records whose names have composed or combining characters, whatever the artifact has."""
    index = draw.index()
    records = [
        Members((normalize(variant, name), value) for name, value in record)
        for record in draw.records(draw.cells(index))
    ]
    return predict(draw, protocol, records, index)


@row_kind("valid", 2, 1, 1)
def fewest_and_most_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """No rows (FromJsonSingleZeroBatchTensor of TF Serving), or as many as the limit allows."""
    index = draw.choice((draw.index()[:0], draw.index(at_least=draw.model.max_rows)))
    return predict(draw, protocol, draw.numbers(index), index)


@row_kind("valid", 2, 1, 1, variants=UNUSUAL_BODIES)
def unusual_body(draw: Draw, protocol: RowProtocol, variant: str) -> Case:
    r"""The largest body, any usual Content-Type or none, \u escapes, or a byte-order mark."""
    index, options, key = draw.index(at_most=33), {}, protocol.member
    body = draw.choice((b"", b" ", b"\r\n\t")) + draw.json({key: draw.cells(index)})
    match variant:
        case "maximum size":
            body = body.ljust(draw.model.limits.body_bytes)
            options["framing"] = draw.choice(("length", "chunked", "gzip", "zlib"))
        case "any content type":
            options["content_type"] = draw.choice(CONTENT_TYPES)
        case "byte-order mark":
            body = BOM_UTF8 + body
            options["content_type"] = draw.choice(CONTENT_TYPES)
        case _:
            escapes = "".join(f"\\u{ord(c):04x}" if draw.chance(0.4) else c for c in key)
            body = body.replace(key.encode(), escapes.encode(), 1)
    return predict(draw, protocol, None, index, body, **options)


@row_kind("valid", 2, 1, 1)
def numbers_that_round_to_zero(draw: Draw, protocol: RowProtocol) -> Case:
    """Zeros, and numbers that float32 or float64 rounds to zero."""
    cells = [Raw(draw.choice(ZEROS)) for _ in draw.model.features]
    return predict(draw, protocol, [cells], draw.model.zero)


@row_kind("nearly valid", 8, 2, 2, variants=WRONG_CELLS)
def wrong_cell(draw: Draw, protocol: RowProtocol, variant: str) -> Case:
    """A cell that is no number, or beyond float32; SingleUnnamedTensorErrors of JsontensorTest."""
    return reject_cell(draw, protocol, *WRONG_CELLS[variant])


@row_kind("nearly valid", 2, 1, 1)
def row_that_overflows(draw: Draw, protocol: RowProtocol) -> Case:
    """A finite row whose output overflows float32 fails the whole request."""
    values, i = draw.overflow(draw.index())
    return reject(draw, protocol, values, f"[{i}]", "float32")


@row_kind("nearly valid", 6, 3, 2)
def wrong_row(draw: Draw, protocol: RowProtocol) -> Case:
    """A row too short or too long, or a scalar; 'Expecting tensor size' of JsontensorTest."""
    cells, (i, j) = draw.cells_and_position()
    row = cells[i]
    lists = [row[:-1], row + row[j:], [], row * 2, row[:j]]
    cells[i] = wrong = draw.choice([*lists, 1, 1.5, "a", None, True])
    counts = (
        f"{len(draw.model.features)} values, found {len(wrong)}" if wrong in lists else "a list"
    )
    return reject(draw, protocol, cells, f"[{i}]", f"expected {counts}")


@row_kind("nearly valid", 2, 1)
def rows_mixed_with_records(draw: Draw, protocol: RowProtocol) -> Case:
    """Lists after objects, or objects after lists; MultipleNamedTensorErrors of JsontensorTest."""
    cells, (i, _) = draw.cells_and_position(at_least=2)
    first, last = draw.choice(((list, draw.records), (draw.records, list)))
    return reject(draw, protocol, first(cells[:i]) + last(cells[i:]), f"[{i}]")


@row_kind("nearly valid", 2, 1, 1, variants=("rows", "document"))
def wrong_type(draw: Draw, protocol: RowProtocol, variant: str) -> Case:
    """Rows that are no list (KServe's TestModel.test_validate), or a document without rows."""
    if variant == "rows":
        value = draw.choice(("invalid", 1, None, True, {}, {"a": [1]}, 1.5, ""))
        return reject(draw, protocol, value, "", "expected a list")
    objects: Any = ({}, {"instance": []}, {"Instances": []}, {"": 1})
    document = draw.choice((*objects, [], [[1, 2]], 1, "instances", None))
    return reject_body(draw, protocol, draw.json(document), ErrorReply(422, None, '"instances"'))


@row_kind("nearly valid", 2, 1, variants=("missing", "unknown", "renamed", "twice"))
def wrong_feature(draw: Draw, protocol: RowProtocol, variant: str) -> Case:
    """A record in which a feature is missing, unknown or given twice."""
    cells, (i, j) = draw.cells_and_position()
    records, name, status = draw.records(cells), draw.model.features[j], 422
    names = (name + " ", name.upper() + "X", "", "label", name[:-1], name + "\u0301")
    other = draw.choice(names)
    match variant:
        case "missing":
            records[i] = Members(pair for pair in records[i] if pair[0] != name)
            text = f"missing feature '{name}'"
        case "unknown":
            records[i].append((other, 1))
            text = f"unknown feature '{other}'"
        case "renamed":
            records[i] = Members((other if key == name else key, v) for key, v in records[i])
            text = f"unknown feature '{other}'"
        case _:
            repeated = (name, draw.choice((1, "a", None)))
            records[i].insert(draw.random.randrange(len(records[i])), repeated)
            text, status = json.dumps(name, ensure_ascii=False), 400
    return reject(draw, protocol, records, f"[{i}]", text, status)


@row_kind("nearly valid", 3, 1, 1)
def too_many_rows(draw: Draw, protocol: RowProtocol) -> Case:
    """More rows than the limit allows, in a body within the size limit."""
    limit, features = draw.model.max_rows, draw.model.features
    count = draw.choice((limit + 1, limit + 2, limit * 3))
    rows: Any = draw.choice(([[0] * len(features)] * count, [[]] * count))
    if protocol.member == "instances" and draw.chance(0.3):
        rows = [dict.fromkeys(features, 0)] * (limit + 1)
    body = json_text.text({protocol.member: rows}, "").encode()
    return reject_body(draw, protocol, body, ErrorReply(413, protocol.member, str(limit)))


@row_kind("nearly valid", 1, 1, 1)
def member_twice(draw: Draw, protocol: RowProtocol) -> Case:
    """The member with the rows appears twice, which is ambiguous."""
    cells, member = draw.json(draw.cells(draw.index(at_most=7))), protocol.member
    first = f"\\u{ord(member[0]):04x}{member[1:]}" if draw.chance(0.5) else member
    body = b'{"%b":%b,"%b":%b}' % (first.encode(), cells, member.encode(), cells)
    return reject_body(draw, protocol, body, ErrorReply(400, None, f'"{member}"'))


@row_kind("nearly valid", 3, 1)
def nothing_acceptable(draw: Draw, protocol: RowProtocol) -> Case:
    """406 if Accept excludes every media type of the reply; the error is still JSON."""
    body = draw.json({"instances": draw.cells(draw.index())})
    headers = [("Accept", draw.choice(NOT_ACCEPTABLE))]
    return reject_body(draw, protocol, body, ErrorReply(406, None, "Accept"), headers=headers)


@row_kind("nearly valid", 4, 1)
def unsupported_content_type(draw: Draw, protocol: RowProtocol) -> Case:
    """415, and the error names the supported types; KServe's suite sends CloudEvents and Avro."""
    body = draw.choice((b"1,2", b"[[1, 2]]", b"\x80\x04", b"<a/>"))
    # Without a type or with curl's default, /predict reads only a body that begins with { as JSON.
    more = (None, "application/x-www-form-urlencoded") if protocol is NATIVE else ()
    content_type = draw.choice((*UNSUPPORTED_TYPES, *more))
    return reject_body(draw, protocol, body, ErrorReply(415, None, JSON), content_type=content_type)


@row_kind("hostile", 3, 1, 1)
def nested_too_deep(draw: Draw, protocol: RowProtocol) -> Case:
    """JSON nested beyond the parser's limit; nested_json_crash.py of Triton's L0_http."""
    depth = draw.choice((1100, 1300, 30_000))
    outcome = ErrorReply(413 if depth == 30_000 else 400)
    opening, closing = draw.choice((("[", "]"), ("[", ""), ('{"a":', "}"), ("[[],", "]")))
    depth = min(depth, 60_000 // (len(opening) + len(closing)))
    nested = opening * depth + "1" + closing * depth
    body = draw.choice((f'{{"instances": [[{nested}]]}}', nested, f'{{"instances": {nested}}}'))
    return reject_body(draw, protocol, body.encode(), outcome)


@row_kind("hostile", 8, 2, 2)
def number_outside_json(draw: Draw, protocol: RowProtocol) -> Case:
    """NaN, Infinity, hexadecimal or leading zeros, some of which Python's json accepts."""
    cells, (i, j) = draw.cells_and_position(at_most=7)
    cells[i][j] = Raw(draw.choice(NOT_JSON_NUMBERS))
    return reject_body(draw, protocol, draw.json(protocol.document(draw, cells)), ErrorReply(400))


@row_kind("hostile", 5, 2, 1, variants=("not JSON", "damaged"))
def malformed(draw: Draw, protocol: RowProtocol, variant: str) -> Case:
    """Truncated JSON, invalid UTF-8 and other bodies that are not JSON; PredictRequestErrors."""
    if variant == "not JSON":
        return reject_body(draw, protocol, draw.choice(NOT_JSON), ErrorReply(400))
    body = draw.json({protocol.member: draw.cells(draw.index(at_most=7))}).strip()
    cut = draw.random.randrange(1, len(body))
    invalid = draw.choice((b"\xff", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"))
    rest = b"" if draw.chance(0.6) else invalid + body[cut:]
    return reject_body(draw, protocol, body[:cut] + rest, ErrorReply(400))
