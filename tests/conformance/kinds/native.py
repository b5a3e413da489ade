"""Requests that only POST /predict accepts: CSV and raw numbers, and Accept for its replies."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tests.conformance.draw import Case, Draw, kind, words
from tests.conformance.json_text import number
from tests.conformance.kinds.json_rows import FLOAT32_OVERFLOW
from tests.conformance.outcomes import BYTES, CSV, JSON, PROBLEM, ErrorReply, Outcome
from tests.conformance.predictions import Predictions
from tests.conformance.served import Index

PATH = "/predict"
ACCEPT_VALUES = {
    JSON: (
        *("", "*/*", JSON, JSON.upper(), "application/*", "text/html, */*;q=0.1"),
        *("text/csv;q=0.4, application/json;q=0.5", "application/problem+json, application/json"),
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        'application/x;q=0.1, text/*;q=0.2;x="y", ' * 1000 + "application/json;q=0.3",
    ),
    CSV: (
        *(CSV, "text/*", "text/csv;q=0.5, application/json;q=0.4", "*/*, application/json;q=0"),
        *("text/csv , application/json ; q=0.999", "application/xml, text/csv; q=0.001"),
        "application/json;q=0.2, text/csv;q=0.3, application/octet-stream;q=0.25",
    ),
    BYTES: (BYTES, "application/octet-stream, */*;q=0.1", "application/*, application/json;q=0"),
}
ACCEPTED = {accept: media for media, values in ACCEPT_VALUES.items() for accept in values}
"""Media type of the reply by Accept (RFC 9110, 12.5.1); ties go to JSON, then CSV, then bytes."""
DELIMITERS = (",", ",", ",", ";", "\t")
CSV_TYPES = (
    *(CSV, CSV, CSV, "text/csv; charset=utf-8", "Text/CSV; header=present"),
    "text/csv;charset=UTF-8",
)
NOT_NUMBERS = (*words("x 1_000 0x10 1.2.3 --1 1e true null \u0661 1,5 $1 \uff11 '1'"), *("", "1 2"))
NOT_FINITE = (
    *("nan", "NaN", "inf", "-inf", "Infinity", "1e39", "-1E39", "1e400", "9" * 50),
    FLOAT32_OVERFLOW,
)
NOT_FINITE_BITS = (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF)
"""The float32 bits of infinities, and of quiet and signalling NaNs."""

Cells = list[list[str]]


def table(draw: Draw, index: Index) -> Cells:
    """Return rows as text, in the order of the features."""
    write = repr if draw.chance(0.7) else lambda value: str(number(draw.random, value))
    return [[write(value) for value in row] for row in draw.numbers(index)]


def write_csv(
    draw: Draw, lines: Sequence[Sequence[str]], delimiter: str = "", newline: str = ""
) -> bytes:
    """Write CSV with a random delimiter, newline, quoting and byte-order mark."""
    text = io.StringIO()
    delimiter = delimiter or draw.choice(DELIMITERS)
    newline = newline or draw.choice(("\n", "\r\n"))
    quoting: Literal[0, 1] = csv.QUOTE_ALL if draw.chance(0.3) else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerows(lines)
    content = text.getvalue()
    if draw.chance(0.2):
        content = content[: -len(newline)]
    return content.encode("utf-8-sig" if draw.chance(0.2) else "utf-8")


def with_header(draw: Draw, cells: Cells) -> tuple[Cells, list[int]]:
    """Return cells with reordered columns below a header, and the feature index of each column."""
    order = list(range(len(draw.model.features)))
    if draw.chance(0.6):
        draw.random.shuffle(order)
    header = [draw.model.features[j] for j in order]
    # A row of the wrong width stays as it is.
    rows = [[row[j] for j in order] if len(row) == len(order) else row for row in cells]
    return [header, *rows], order


def maybe_with_header(draw: Draw, cells: Cells) -> Cells:
    """Return the cells, with a header in half of the cases."""
    return with_header(draw, cells)[0] if draw.chance(0.5) else cells


def send_csv(draw: Draw, body: bytes, outcome: Outcome, **options: Any) -> Case:
    """Post CSV to /predict."""
    return draw.post(PATH, body, outcome, content_type=draw.choice(CSV_TYPES), **options)


def reject_csv(
    draw: Draw, cells: Cells, i: int, text: str, column: str = "", status: int = 422
) -> Case:
    """Send cells whose row `i` is wrong, with a header in half of the cases."""
    lines = maybe_with_header(draw, cells)
    where = f"line {i + 1 + len(lines) - len(cells)}{column}"
    return send_csv(draw, write_csv(draw, lines), ErrorReply(status, where, text))


@kind("valid", 16)
def csv_rows(draw: Draw) -> Case:
    """CSV with or without a header; several delimiters, quoted cells, a byte-order mark."""
    index = draw.index()
    body = write_csv(draw, maybe_with_header(draw, table(draw, index)))
    return send_csv(draw, body, Predictions(draw.model, index))


@kind("valid", 2)
def csv_with_spaces_and_empty_lines(draw: Draw) -> Case:
    """CSV with spaces around cells and names, and with empty lines."""
    index = draw.index()
    lines = maybe_with_header(draw, table(draw, index))
    padded = [[f" {cell}  " for cell in line] for line in lines]
    newline = draw.choice(("\n", "\r\n"))
    end = newline.encode()
    body = write_csv(draw, padded, newline=newline).replace(end, end * 2) + end * 3
    if draw.chance(0.3) and not body.startswith(b"\xef\xbb\xbf"):
        body = end + body
    return send_csv(draw, body, Predictions(draw.model, index))


@kind("nearly valid", 8)
def csv_with_wrong_cell(draw: Draw) -> Case:
    """A cell that is no finite float32 number; the error names its line and column."""
    index = draw.index(at_least=2)
    # A first line with a cell that is no number is a header, so choose a later line.
    cells, (i, j) = table(draw, index), draw.position(index, at_least_row=1)
    cells[i][j] = wrong = draw.choice((*NOT_NUMBERS, *NOT_FINITE))
    text = "float32" if wrong in NOT_FINITE else f"expected a number, found '{wrong}'"
    return reject_csv(draw, cells, i, text, f", column '{draw.model.features[j]}'")


@kind("nearly valid", 3)
def csv_line_of_wrong_width(draw: Draw) -> Case:
    """A later line with too many or too few cells; the first line determines the width."""
    index = draw.index(at_least=2)
    cells, (i, _) = table(draw, index), draw.position(index, at_least_row=1)
    cells[i] = draw.choice((cells[i][:-1], [*cells[i], "1"], [*cells[i], ""], cells[i] * 3))
    text = f"expected {len(draw.model.features)} values, found {len(cells[i])}"
    return reject_csv(draw, cells, i, text)


@kind("nearly valid", 2, variants=("unknown", "missing", "twice", "alone"))
def csv_with_wrong_header(draw: Draw, variant: str) -> Case:
    """A header with an unknown, missing or repeated feature, or a header without rows."""
    lines, order = with_header(draw, table(draw, draw.index()))
    i, j = draw.random.sample(range(len(order)), 2)
    name, status = draw.model.features[order[j]], 422
    match variant:
        case "unknown":
            lines[0][j] = draw.choice((name + "s", "label", name.upper() + "X", "prediction"))
            text = f"unknown feature '{lines[0][j]}'"
        case "missing":
            lines = [line[:j] + line[j + 1 :] for line in lines]
            text = f"missing feature '{name}'"
        case "twice":
            lines[0][i] = name
            text, status = f"'{name}'", 400
        case _:
            return send_csv(draw, write_csv(draw, lines[:1]), ErrorReply(400, None, "no rows"))
    return send_csv(draw, write_csv(draw, lines), ErrorReply(status, "line 1", text))


@kind("nearly valid", 2, variants=("too many", "overflow"))
def csv_rows_beyond_limits(draw: Draw, variant: str) -> Case:
    """More rows than the limit allows, or a row whose output overflows float32."""
    if variant == "too many":
        limit, row = draw.model.max_rows, ["0"] * len(draw.model.features)
        cells = [row] * (limit + draw.choice((1, 2, 100)))
        return reject_csv(draw, cells, limit, str(limit), status=413)
    rows, i = draw.overflow(draw.index())
    lines = maybe_with_header(draw, [list(map(repr, row)) for row in rows])
    line = i + 1 + len(lines) - len(rows)
    return send_csv(draw, write_csv(draw, lines), ErrorReply(422, f"line {line}", "float32"))


@kind("hostile", 3)
def invalid_csv(draw: Draw) -> Case:
    """An empty body, an encoding other than UTF-8, or an unclosed quote in the last line."""
    index = draw.index(at_most=7)
    good = write_csv(draw, table(draw, index), ",").rstrip(b"\r\n")
    if draw.chance(0.3):
        outcome = ErrorReply(400, f"line {len(index) + 1}", "not CSV")
        return send_csv(draw, good + b'\n1,"2', outcome)
    encoded = (b"\xff\xfe1\x00,\x002\x00", good + b"\xff", b"\x80" + good, b"\xc3(" + good)
    return send_csv(draw, draw.choice((b"", b"\n\n\r\n", *encoded)), ErrorReply(400))


@kind("valid", 8, variants=("JSON", "CSV", "bytes"))
def accept(draw: Draw, variant: str) -> Case:
    """Accept determines the media type of the reply to rows as JSON, CSV or bytes."""
    index, accept = draw.index(), draw.choice(list(ACCEPTED))
    outcome, headers = Predictions(draw.model, index, ACCEPTED[accept]), [("Accept", accept)]
    if variant == "CSV":
        body = write_csv(draw, maybe_with_header(draw, table(draw, index)))
        return send_csv(draw, body, outcome, headers=headers)
    body, content_type = draw.json({"instances": draw.cells(index)}), JSON
    if variant == "bytes":
        body, content_type = draw.float32(index), draw.raw_type(len(index))
    return draw.post(PATH, body, outcome, content_type=content_type, headers=headers)


def not_finite(draw: Draw, index: Index) -> tuple[bytes, ErrorReply]:
    """Return rows as float32 with an infinity or a NaN, and the expected error."""
    (i, j), bits = draw.position(index), draw.model.rows[index].astype("<f4").view("<u4")
    bits[i, j] = draw.choice(NOT_FINITE_BITS)
    return bits.tobytes(), ErrorReply(422, f"row {i}, column {j}", "finite")


def wrong_float32(draw: Draw) -> tuple[bytes, ErrorReply]:
    """Return bytes that are not valid float32 rows, and the expected error."""
    limit, width = draw.model.max_rows, len(draw.model.features)
    body = draw.float32(draw.index(at_most=33))
    incomplete = draw.choice((body[:-1], body + b"\0", body[:-4], body[: len(body) // 2 + 1]))
    rows, i = draw.overflow(draw.index())
    wrong: Any = (
        not_finite(draw, draw.index()),
        (b"", ErrorReply(400, None, "empty")),
        (incomplete, ErrorReply(422, None, f"a multiple of {4 * width} bytes")),
        (bytes(4 * width * (limit + draw.choice((1, 50)))), ErrorReply(413, None, str(limit))),
        (np.array(rows, "<f4").tobytes(), ErrorReply(422, f"row {i}", "float32")),
    )
    body, outcome = draw.choice(wrong)
    return body, outcome


@kind("nearly valid", 5)
def wrong_bytes(draw: Draw) -> Case:
    """Bytes with no, incomplete or too many rows, a value that is not finite, or an overflow."""
    return draw.post(PATH, *wrong_float32(draw), content_type=draw.raw_type(None))


@kind("valid", 3)
def numbers_of_other_types(draw: Draw) -> Case:
    """float64 bytes, which are rounded as in JSON, or zeros of an integer type."""
    index, dtype = draw.index(), "<f8"
    if draw.chance(0.3):
        index, dtype = draw.model.zero, draw.choice(("<i1", "<i8", "<u2", "<u4"))
    body, content_type = draw.raw(index, dtype), draw.raw_type(len(index), np.dtype(dtype).name)
    return draw.post(PATH, body, Predictions(draw.model, index), content_type=content_type)


@kind("nearly valid", 4)
def undeclared_numbers(draw: Draw) -> Case:
    """Bytes without a type and a row count, or with those of another array."""
    index, other = draw.index(), "<f8"
    rows = len(index)
    wrong = (
        (BYTES, "<f4", ErrorReply(415, None, "dtype")),
        (f"{BYTES}; a=b", other, ErrorReply(415, None, "dtype")),
        (f"{BYTES}; dtype=bfloat16", "<f4", ErrorReply(415, None, "bfloat16")),
        (f"{BYTES}; rows=-1", "<f4", ErrorReply(400, None, "-1")),
        (f"{BYTES}; rows={rows}", other, ErrorReply(422, None, f"{rows} rows")),
        (f"{BYTES}; rows={rows + 1}", "<f4", ErrorReply(422, None, f"{rows + 1} rows")),
        (f"{BYTES}; rows={rows}; dtype=float64", "<f4", ErrorReply(422, None, "float64")),
    )
    content_type, dtype, outcome = draw.choice(wrong)
    return draw.post(PATH, draw.raw(index, dtype), outcome, content_type=content_type)


@kind("nearly valid", 3)
def error_as_problem_json(draw: Draw) -> Case:
    """Errors have the type application/problem+json if Accept prefers it."""
    preferred = (f"{PROBLEM}, */*", f"{PROBLEM};q=0.9, {JSON}", f" {PROBLEM} , text/csv")
    accept, body, status = draw.choice(preferred), b"{", 400
    if draw.chance(0.3):
        accept, body, status = PROBLEM, b'{"instances": []}', 406
    outcome = ErrorReply(status, media_type=PROBLEM)
    return draw.post(PATH, body, outcome, headers=[("Accept", accept)])


@kind("nearly valid", 2)
def unknown_member(draw: Draw) -> Case:
    """An unknown member in the document with the rows."""
    others = ("inputs", "id", "parameters", "Instances", "instances ", "\u00e9", "signature_name")
    other, rows = draw.choice(others), draw.cells(draw.index())
    members = {"instances": rows, other: draw.choice((1, None, [], "a"))}
    document = draw.shuffled(members.items())
    return draw.post(PATH, draw.json(document), ErrorReply(422, other, '"instances"'))
