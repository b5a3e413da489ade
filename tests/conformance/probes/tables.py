"""POST /predict as CSV and as float32 bytes, and what is neither."""

import csv
import io
import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tests.conformance.probes import native
from tests.conformance.probes.answers import Predictions
from tests.conformance.probes.ask import Ask, Probe, kind
from tests.conformance.probes.json_text import number
from tests.conformance.probes.replies import BYTES, CSV, JSON, Refusal
from tests.conformance.probes.subject import Index

PATH = "/predict"
MARKS = (",", ",", ",", ";", "\t")
CALLED = (
    CSV,
    CSV,
    CSV,
    "text/csv; charset=utf-8",
    "Text/CSV; header=present",
    "text/csv;charset=UTF-8",
)
NOT_NUMBERS = (
    "x",
    "",
    "1_000",
    "0x10",
    "1.2.3",
    "--1",
    "1e",
    "true",
    "null",
    "\u0661",
    "1 2",
    "1,5",
    "$1",
    "\uff11",
    "'1'",
)
NOT_FINITE = (
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "1e39",
    "-1E39",
    "1e400",
    "9" * 50,
    native.FLOAT32_ENDS,
)
NOT_FINITE_BITS = (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF)
"""Infinities, and NaNs quiet and signalling."""
OTHER_TYPES = (
    *(
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-protobuf",
        "text/json",
    ),
    *(
        "application/vnd.api+json",
        "application/python-pickle",
        "application/json2",
        "json",
        "*/*",
        "text/csvx",
        "a/b/c",
    ),
    *("application/cloudevents+json", "application/avro", "image/png"),
)

Cells = list[list[str]]


def table(ask: Ask, index: Index) -> Cells:
    """Return rows as text, in the order of the features."""
    if ask.random.random() < 0.7:
        return [[repr(value) for value in row] for row in ask.wide(index)]
    return [[str(number(ask.random, value)) for value in row] for row in ask.wide(index)]


def written(
    ask: Ask, lines: Sequence[Sequence[str]], mark: str | None = None, ending: str | None = None
) -> bytes:
    """Write CSV as one of the programs that write it would."""
    text = io.StringIO()
    mark, ending = mark or ask.choice(MARKS), ending or ask.choice(("\n", "\r\n"))
    every: Literal[0, 1] = csv.QUOTE_ALL if ask.random.random() < 0.3 else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=mark, lineterminator=ending, quoting=every).writerows(lines)
    content = text.getvalue()
    if ask.random.random() < 0.2:
        content = content[: -len(ending)]
    return content.encode("utf-8-sig" if ask.random.random() < 0.2 else "utf-8")


def with_header(ask: Ask, cells: Cells) -> tuple[Cells, list[int]]:
    """Return the cells under a header, their columns in an order of their own, and the feature of each column."""
    order = list(range(len(ask.subject.features)))
    if ask.random.random() < 0.6:
        ask.random.shuffle(order)
    header = [ask.subject.features[j] for j in order]
    return [
        header,
        *([row[j] for j in order] if len(row) == len(order) else row for row in cells),
    ], order


def maybe_header(ask: Ask, cells: Cells) -> tuple[Cells, list[int]]:
    """Return the cells, under a header or not."""
    return (
        with_header(ask, cells)
        if ask.random.random() < 0.5
        else (cells, list(range(len(ask.subject.features))))
    )


def sent(ask: Ask, body: bytes, expected: Any, **options: Any) -> Probe:
    """Send CSV."""
    return ask.post(PATH, body, expected, form=ask.choice(CALLED), **options)


@kind("valid", 10)
def csv_without_header(ask: Ask) -> Probe:
    """Lines of numbers."""
    index = ask.rows()
    return sent(ask, written(ask, table(ask, index)), Predictions(ask.subject, index))


@kind("valid", 10)
def csv_with_header(ask: Ask) -> Probe:
    """A header that may reorder the columns; commas, semicolons, tabs, quotes, a byte-order mark."""
    index = ask.rows()
    return sent(
        ask, written(ask, with_header(ask, table(ask, index))[0]), Predictions(ask.subject, index)
    )


@kind("valid", 2)
def csv_with_spaces_and_empty_lines(ask: Ask) -> Probe:
    """Spaces around cells and names, lines with nothing in them, numbers as spreadsheets write them."""
    index = ask.rows()
    cells = [[f" {text}  " for text in row] for row in table(ask, index)]
    lines = maybe_header(ask, cells)[0]
    if lines[0] is not cells[0]:
        lines[0] = [f"  {name} " for name in lines[0]]
    ending = ask.choice(("\n", "\r\n"))
    body = (
        written(ask, lines, ending=ending).replace(ending.encode(), ending.encode() * 2)
        + ending.encode() * 3
    )
    if ask.random.random() < 0.3 and not body.startswith(b"\xef\xbb\xbf"):
        body = ending.encode() + body
    return sent(ask, body, Predictions(ask.subject, index))


@kind("valid", 4)
def csv_answered_as_accepted(ask: Ask) -> Probe:
    """CSV in, and whatever form Accept asks for out."""
    index, accept = ask.rows(), ask.choice(list(native.ACCEPTED))
    expected = Predictions(ask.subject, index, native.ACCEPTED[accept])
    return sent(
        ask,
        written(ask, maybe_header(ask, table(ask, index))[0]),
        expected,
        headers=[("Accept", accept)],
    )


@kind("nearly valid", 4)
def csv_cell_that_is_no_number(ask: Ask) -> Probe:
    """The place is the line and the column's name, wherever a header has put it."""
    index = ask.rows(least=2)
    cells, (i, j) = table(ask, index), ask.place(index)
    i = max(i, 1)  # in the first line it would make a header of it
    cells[i][j] = bad = ask.choice(NOT_NUMBERS)
    lines = maybe_header(ask, cells)[0]
    where = f"line {i + 1 + len(lines) - len(cells)}, column '{ask.subject.features[j]}'"
    return sent(ask, written(ask, lines), Refusal(422, where, f"expected a number, found '{bad}'"))


@kind("nearly valid", 4)
def csv_cell_that_is_not_finite(ask: Ask) -> Probe:
    """NaN and infinities by name, and numbers that float32 does not hold."""
    index = ask.rows()
    cells, (i, j) = table(ask, index), ask.place(index)
    cells[i][j] = ask.choice(NOT_FINITE)
    lines = maybe_header(ask, cells)[0]
    where = f"line {i + 1 + len(lines) - len(cells)}, column '{ask.subject.features[j]}'"
    return sent(ask, written(ask, lines), Refusal(422, where, "float32"))


@kind("nearly valid", 3)
def csv_line_of_another_width(ask: Ask) -> Probe:
    """A cell too many or too few; the first line decides what separates, so it is whole."""
    index = ask.rows(least=2)
    cells, width = table(ask, index), len(ask.subject.features)
    i = ask.random.randrange(1, len(index))
    cells[i] = ask.choice((cells[i][:-1], [*cells[i], "1"], [*cells[i], ""], cells[i] * 3))
    lines = maybe_header(ask, cells)[0]
    where = f"line {i + 1 + len(lines) - len(cells)}"
    says = f"expected {width} values, found {len(cells[i])}"
    return sent(ask, written(ask, lines), Refusal(422, where, says))


@kind("nearly valid", 2)
def csv_column_unknown(ask: Ask) -> Probe:
    """A header with a name that is none of the features."""
    lines = with_header(ask, table(ask, ask.rows()))[0]
    j = ask.random.randrange(len(lines[0]))
    lines[0][j] = other = ask.choice(
        (lines[0][j] + "s", "label", lines[0][j].upper() + "X", "prediction")
    )
    return sent(ask, written(ask, lines), Refusal(422, "line 1", f"unknown feature '{other}'"))


@kind("nearly valid", 2)
def csv_column_missing(ask: Ask) -> Probe:
    """A table without one of the features."""
    lines, order = with_header(ask, table(ask, ask.rows()))
    j = ask.random.randrange(len(order))
    missing = f"missing feature '{ask.subject.features[order[j]]}'"
    return sent(
        ask,
        written(ask, [line[:j] + line[j + 1 :] for line in lines]),
        Refusal(422, "line 1", missing),
    )


@kind("nearly valid", 2)
def csv_column_twice(ask: Ask) -> Probe:
    """A table with one of the features twice: which is meant, nobody can know."""
    lines = with_header(ask, table(ask, ask.rows()))[0]
    i, j = ask.random.sample(range(len(lines[0])), 2)
    lines[0][i] = lines[0][j]
    return sent(
        ask, written(ask, lines), Refusal(400, "line 1", f"the column '{lines[0][j]}' stands twice")
    )


@kind("nearly valid", 1)
def csv_of_a_header_alone(ask: Ask) -> Probe:
    """No row to answer."""
    return sent(ask, written(ask, with_header(ask, [])[0]), Refusal(400, None, "no rows"))


@kind("nearly valid", 1)
def csv_of_too_many_rows(ask: Ask) -> Probe:
    """The place is the first line that is one too many."""
    most, width = ask.subject.most_rows, len(ask.subject.features)
    lines = maybe_header(ask, [["0"] * width] * (most + ask.choice((1, 2, 100))))[0]
    line = most + (2 if lines[0][0] != "0" else 1)
    return sent(ask, written(ask, lines), Refusal(413, f"line {line}", str(most)))


@kind("nearly valid", 2)
def csv_row_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not: rows are counted from 0."""
    rows, i = ask.beyond(ask.rows())
    lines = maybe_header(ask, [[repr(value) for value in row] for row in rows])[0]
    return sent(ask, written(ask, lines), Refusal(422, f"row {i}", "overflows float32"))


@kind("hostile", 2)
def csv_that_is_none(ask: Ask) -> Probe:
    """Nothing at all, or another encoding than UTF-8."""
    good = written(ask, table(ask, ask.rows(most=7)))
    broken = (
        b"",
        b"\n\n\r\n",
        b"\xff\xfe1\x00,\x002\x00",
        good + b"\xff",
        b"\x80" + good,
        b"\xc3(" + good,
    )
    return sent(ask, ask.choice(broken), Refusal(400))


@kind("hostile", 1)
def csv_quote_that_never_ends(ask: Ask) -> Probe:
    """The place is the line where the text ends."""
    index = ask.rows(most=33)
    body = written(ask, table(ask, index), ",").rstrip(b"\r\n") + b'\n1,"2'
    return sent(ask, body, Refusal(400, f"line {len(index) + 1}", "not CSV"))


@kind("valid", 10)
def bytes_of_float32(ask: Ask) -> Probe:
    """Little-endian float32, row-major; the number of rows follows from the length."""
    index, accept = ask.rows(), ask.choice(list(native.ACCEPTED))
    body = ask.subject.wide[index].astype("<f4").tobytes()
    expected = Predictions(ask.subject, index, native.ACCEPTED[accept])
    return ask.post(
        PATH,
        body,
        expected,
        form=ask.choice((BYTES, "Application/Octet-Stream; a=b")),
        headers=[("Accept", accept)],
    )


@kind("nearly valid", 3)
def bytes_that_are_not_finite(ask: Ask) -> Probe:
    """Infinities and NaNs of every sort, at a row and a column."""
    index = ask.rows()
    bits, (i, j) = ask.subject.wide[index].astype("<f4").view("<u4"), ask.place(index)
    bits[i, j] = ask.choice(NOT_FINITE_BITS)
    return ask.post(
        PATH, bits.tobytes(), Refusal(422, f"row {i}, column {j}", "finite"), form=BYTES
    )


@kind("nearly valid", 2)
def bytes_of_half_a_row(ask: Ask) -> Probe:
    """A length that is no whole number of rows."""
    body = ask.subject.wide[ask.rows(most=33)].astype("<f4").tobytes()
    body = ask.choice((body[:-1], body + b"\0", body[:-4], body[: len(body) // 2 + 1]))
    says = f"a multiple of {4 * len(ask.subject.features)} bytes"
    return ask.post(PATH, body, Refusal(422, None, says), form=BYTES)


@kind("nearly valid", 1)
def bytes_of_too_many_rows(ask: Ask) -> Probe:
    """One row more than is allowed."""
    most, width = ask.subject.most_rows, len(ask.subject.features)
    body = struct.pack("<f", 1) * (width * (most + ask.choice((1, 50))))
    return ask.post(PATH, body, Refusal(413, None, str(most)), form=BYTES)


@kind("nearly valid", 1)
def bytes_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not."""
    rows, i = ask.beyond(ask.rows())
    body = np.array(rows, "<f4").tobytes()
    return ask.post(PATH, body, Refusal(422, f"row {i}", "overflows float32"), form=BYTES)


@kind("nearly valid", 1)
def bytes_of_nothing(ask: Ask) -> Probe:
    """An empty body."""
    return ask.post(PATH, b"", Refusal(400, None, "empty"), form=ask.choice((BYTES, JSON)))


@kind("nearly valid", 3)
def type_that_is_not_spoken(ask: Ask) -> Probe:
    """415, and the three that are; KServe's suite sends CloudEvents and Avro."""
    body = ask.choice((b"1,2", b'{"instances": []}', b"\x80\x04", b"<a/>"))
    form = ask.choice(OTHER_TYPES)
    return ask.post(PATH, body, Refusal(415, None, "application/octet-stream"), form=form)


@kind("nearly valid", 1)
def body_without_a_name(ask: Ask) -> Probe:
    """No Content-Type, and a body that does not begin as JSON's does."""
    body = ask.choice((b"1,2,3,4\n", b"[[1, 2]]", b"plain", b"\x00\x01"))
    form = ask.choice((None, "application/x-www-form-urlencoded"))
    return ask.post(PATH, body, Refusal(415, None, "application/json"), form=form)
