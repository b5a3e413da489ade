"""service.payload: bytes to rows, or the place where they do not fit."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import BadInput
from service.protocols import csv_rows, json_rows
from service.protocols.rows import rows_from_bytes, rows_from_instances
from service.runtime.session import Rows

FEATURES = ("a", "b c", "größe, €")
MOST_ROWS = 1000

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3)), elements=finite)


def parse(body: bytes | str) -> Rows:
    """Parse a JSON body as the native dialect does where the fast reader declines."""
    document = json_rows.load_json(
        body.encode() if isinstance(body, str) else body, MOST_ROWS * len(FEATURES)
    )
    return rows_from_instances(document["instances"], FEATURES, MOST_ROWS)


def fast(body: str | bytes) -> Rows:
    """Read a JSON body by the fast reader, which must not decline."""
    found = json_rows.rows_from_member(
        body.encode() if isinstance(body, str) else body, "instances", 3, MOST_ROWS
    )
    assert found is not None
    return found


@given(matrices)
def test_every_form_carries_the_same_rows(rows: Rows) -> None:
    """Lists, records, CSV with its columns reordered, and bytes: the same float32 bits come out."""
    wide = rows.astype(np.float64).tolist()
    records = [dict(zip(FEATURES, row, strict=True)) for row in wide]
    csv = '"größe, €",a,b c\n' + "".join(f"{row[2]!r},{row[0]!r},{row[1]!r}\n" for row in wide)
    for found in (
        parse(json.dumps({"instances": wide})),
        fast(json.dumps({"instances": wide})),
        parse(json.dumps({"instances": records})),
        csv_rows.rows_from_csv(csv.encode(), FEATURES, MOST_ROWS),
        rows_from_bytes(rows.astype("<f4").tobytes(), FEATURES, MOST_ROWS),
    ):
        assert np.float32 == found.dtype
        assert rows.view(np.uint32).tolist() == found.view(np.uint32).tolist()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_document_is_rows_or_bad_input(value: Any) -> None:
    """Whatever JSON holds, the answer is rows of finite numbers or a BadInput with a place, never another error."""
    body = json.dumps({"instances": value})
    try:
        rows = parse(body)
    except BadInput as error:
        assert error.status in (400, 422)
        return
    assert (len(value), 3) == rows.shape
    assert np.isfinite(rows).all()


numbers = st.integers() | st.floats() | st.integers(-(2**70), 2**70) | st.just(1e39)
cells = numbers | st.none() | st.booleans() | st.text(max_size=3) | st.lists(numbers, max_size=2)


@given(
    st.lists(
        st.lists(numbers, min_size=3, max_size=3) | st.lists(cells, max_size=4) | cells, max_size=4
    ),
    st.sampled_from(["instances", "rows"]),
    st.sampled_from(["", " ", "\ufeff", "[", "]", ',"instances":[]', ',"a":[1]', '"', "\x00", "}"]),
    st.integers(0, 60),
)
def test_fast_reader_agrees_with_the_strict_one(
    rows: Any, member: str, noise: str, place: int
) -> None:
    """What the fast reader reads is, to the bit, what the strict one reads; what that refuses, it declines."""
    text = json.dumps({member: rows})
    text = text[:place] + noise + text[place:]
    found = json_rows.rows_from_member(text.encode(), "instances", 3, MOST_ROWS)
    if found is not None:
        assert found.tobytes() == parse(text).tobytes()


@pytest.mark.parametrize("row", [[1, 2, 3], [0.1, -2.5e-30, 3e38]])
def test_fast_reader_reads_rows_of_numbers(row: list[float]) -> None:
    """Rows of numbers within float32 are never left to the slow path, whatever the size of the body."""
    for count in (1, MOST_ROWS):
        assert (count, 3) == fast(json.dumps({"instances": [row] * count})).shape


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[[1,2,[3]]]}',
        '{"instances":[[1,[2],3]]}',
        '{"instances":[[1,2],[3,4,5,6]]}',
        '{"instances":[[1,2,3],[]]}',
        '{"instances":[]}',
        '{"instances":[[1,2,true]]}',
        '{"instances":[[1,2,1e39]]}',
        '{"instances":[[1,2,1e400]]}',
        '{"instances":[[1,2,3]],"instances":[[1,2,3]]}',
        '{"instances":[[1,2,3]],"x":[]}',
        '\ufeff{"instances":[[1,2,3]]}',
    ],
)
def test_fast_reader_declines(body: str) -> None:
    """What is no plain matrix of numbers within float32 is left to the reader that names the fault."""
    assert json_rows.rows_from_member(body.encode(), "instances", 3, MOST_ROWS) is None


def test_too_many_rows() -> None:
    """One row more than allowed is 413, in every form, and names the limit."""
    rows = [[1, 2, 3]] * 3
    calls: list[Any] = [
        lambda: rows_from_instances(rows, FEATURES, 2),
        lambda: csv_rows.rows_from_csv(b"1,2,3\n" * 3, FEATURES, 2),
        lambda: rows_from_bytes(b"\0" * 36, FEATURES, 2),
    ]
    places = ["instances", "line 3", None]
    for call, where in zip(calls, places, strict=True):
        with pytest.raises(BadInput, match="expected at most 2 rows, found 3 or more") as caught:
            call()
        assert (413, where) == (caught.value.status, caught.value.where)
    assert (
        json_rows.rows_from_member(json.dumps({"instances": rows}).encode(), "instances", 3, 2)
        is None
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_bad_input(body: bytes) -> None:
    """Hostile bytes never get past BadInput, in any form."""
    for parser in (csv_rows.rows_from_csv, rows_from_bytes):
        try:
            assert np.isfinite(parser(body, FEATURES, MOST_ROWS)).all()
        except BadInput as error:
            assert error.status in (400, 422)
    try:
        json_rows.load_json(body, 200)
    except BadInput as error:
        assert 400 == error.status


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.data())
def test_duplicate_keys_are_found_whatever_the_colons(
    record: dict[str, Any], data: st.DataObject
) -> None:
    """Colons in strings neither hide a duplicate key nor invent one."""
    members = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in record.items()]
    json_rows.load_json(f'{{"instances":[{{{",".join(members)}}}]}}'.encode(), len(members))
    again = data.draw(st.sampled_from(list(record)))
    members.insert(data.draw(st.integers(0, len(members))), f"{json.dumps(again)}:1")
    with pytest.raises(BadInput) as caught:
        json_rows.load_json(f'{{"instances":[{{{",".join(members)}}}]}}'.encode(), len(members))
    assert ("instances[0]", 400) == (caught.value.where, caught.value.status)


def test_no_rows_are_no_rows() -> None:
    """An empty list is a valid request for no predictions."""
    assert (0, 3) == parse('{"instances": []}').shape


def test_one_feature_stays_a_column() -> None:
    """A record of a single feature is one row of one value."""
    assert [[2.0]] == rows_from_instances([{"a": 2}], ("a",), 1).tolist()


CAP = 10 + json_rows.MAX_EXTRA_VALUES
LOOSE = f"expected at most {CAP} values in the JSON, found more: "


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"instances": [["::::"' + ",1" * (CAP + 1) + "]]}", f"{CAP + 1} commas outside strings"),
        ("[" + "[[[]]]," * CAP + "1]", f"{3 * CAP + 1} brackets outside strings"),
        ("[" + '{"a":{"a":1}},' * CAP + "1]", f"{2 * CAP} braces outside strings"),
        (r'["\\", "\\\""' + ",1" * CAP + "]", f"{CAP + 1} commas outside strings"),
        ("," * (CAP + 1), f"{CAP + 1} commas outside strings"),
    ],
)
def test_too_many_values(body: str, found: str) -> None:
    """More values than rows can hold are 413 before a parser sees them, whatever they are; the limit is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orjson, "loads", lambda _: pytest.fail("it was parsed"))
        with pytest.raises(BadInput) as caught:
            json_rows.load_json(body.encode(), 10)
    assert (413, None, LOOSE + found) == (
        caught.value.status,
        caught.value.where,
        str(caught.value),
    )


@pytest.mark.parametrize("name", [",", "[{,", r"\",\\", "\u20ac,,,"])
def test_what_is_in_strings_is_no_value(name: str) -> None:
    """As many records as are allowed are read, whatever the features' names hold."""
    records = [{name: index, "b": 2} for index in range(MOST_ROWS)]
    document = json_rows.load_json(json.dumps({"instances": records}).encode(), MOST_ROWS * 2)
    assert (MOST_ROWS, 2) == rows_from_instances(
        document["instances"], (name, "b"), MOST_ROWS
    ).shape


HUGE = "x" * 100_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: parse(f'{{"{HUGE}": 1, "{HUGE}": 1}}'),
        lambda: parse(f'{{"{HUGE}": [{{"a": 1, "a": 2}}]}}'),
        lambda: parse(f'{{"{HUGE}":' * 100 + '{"a": 1, "a": 2}' + "}" * 100),
        lambda: parse("[" * 500 + '{"a": 1, "a": 2}' + "]" * 500),
        lambda: parse(f'{{"instances": "{HUGE}"}}'),
        lambda: parse(f'{{"instances": [["{HUGE}", 2, 3]]}}'),
        lambda: parse(f'{{"instances": [{{"{HUGE}": 1}}]}}'),
        lambda: csv_rows.rows_from_csv(f"1,2,3\n1,2,{HUGE}\n".encode(), FEATURES, MOST_ROWS),
        lambda: csv_rows.rows_from_csv(f"{HUGE},{HUGE},3\n".encode(), FEATURES, MOST_ROWS),
        lambda: csv_rows.rows_from_csv(f"{HUGE},2,3\n".encode(), FEATURES, MOST_ROWS),
    ],
)
def test_a_refusal_is_short(call: Callable[[], Rows]) -> None:
    """However long the caller's text is, a message and its place show the beginning."""
    with pytest.raises(BadInput) as caught:
        call()
    assert len(str(caught.value)) < 200
    assert len(caught.value.where or "") < 200


GOOD = "[1, 2, 3]"


@pytest.mark.parametrize(
    ("body", "status", "where", "detail"),
    [
        ("", 400, None, "the body is empty"),
        ("{", 400, None, "not JSON"),
        ('{"instances": [[1, 2, NaN]]}', 400, None, "not JSON"),
        ('{"instances": [[1, 2, Infinity]]}', 400, None, "not JSON"),
        ('{"instances": [[1, 2, 1e400]]}', 400, None, "not JSON"),
        ("[" * 1025 + "]" * 1025, 400, None, "expected at most 1024 nested levels, found more"),
        (
            '{"a:": ' * 1024 + "1" + "}" * 1024,
            400,
            None,
            "expected at most 1024 nested levels, found more",
        ),
        (
            '{"instances": [[1, 2, 3]], "instances": []}',
            400,
            None,
            'the key "instances" stands twice',
        ),
        (
            '{"instances": [{"a": 1, "b c": 2, "a": 3}]}',
            400,
            "instances[0]",
            'the key "a" stands twice',
        ),
        ('{"instances": 3}', 422, "instances", "expected a list of rows or records, found 3"),
        (
            '{"instances": {"a": 1}}',
            422,
            "instances",
            "expected a list of rows or records, found an object",
        ),
        (
            f'{{"instances": [{GOOD}, 7]}}',
            422,
            "instances[1]",
            "expected a list or an object, found 7",
        ),
        (
            f'{{"instances": [{GOOD}, {{"a": 1}}]}}',
            422,
            "instances[1]",
            "rows and records do not mix in one request",
        ),
        (f'{{"instances": [{GOOD}, [1, 2]]}}', 422, "instances[1]", "expected 3 values, found 2"),
        (
            f'{{"instances": [{GOOD}, [1, 2, 3, 4]]}}',
            422,
            "instances[1]",
            "expected 3 values, found 4",
        ),
        ('{"instances": [[1, true, 3]]}', 422, "instances[0][1]", "expected a number, found true"),
        ('{"instances": [[1, "2", 3]]}', 422, "instances[0][1]", 'expected a number, found "2"'),
        ('{"instances": [[1, null, 3]]}', 422, "instances[0][1]", "expected a number, found null"),
        ('{"instances": [[1, [2], 3]]}', 422, "instances[0][1]", "expected a number, found a list"),
        (
            f'{{"instances": [{GOOD}, [1, 2, 1e39]]}}',
            422,
            "instances[1][2]",
            "within float32, found 1e+39",
        ),
        ('{"instances": [{"a": 1, "b c": 2}]}', 422, "instances[0]", "missing feature 'größe, €'"),
        (
            '{"instances": [{"a": 1, "bc": 2, "größe, €": 3}]}',
            422,
            "instances[0]",
            "unknown feature 'bc' (did you mean 'b c'?)",
        ),
        (
            '{"instances": [{"a": 1, "b c": 2, "größe, €": "x"}]}',
            422,
            'instances[0]["größe, €"]',
            'expected a number, found "x"',
        ),
    ],
)
def test_json_that_does_not_fit(body: str, status: int, where: str | None, detail: str) -> None:
    """Every refusal has its status, its place, and what was expected and found."""
    with pytest.raises(BadInput) as caught:
        parse(body)
    assert (status, where) == (caught.value.status, caught.value.where)
    assert detail in str(caught.value)


@pytest.mark.parametrize(
    ("body", "status", "where", "detail"),
    [
        (b"\xff\xfe", 400, None, "not UTF-8 at byte 0"),
        (b"", 400, None, "no rows"),
        (b'a,b c,"gr\xc3\xb6\xc3\x9fe, \xe2\x82\xac"\n', 400, None, "no rows"),
        (b"1,2\n", 422, "line 1", "expected 3 values, found 2"),
        (b"1,2,3\n\n4,5\n", 422, "line 3", "expected 3 values, found 2"),
        (b"1,2,3\n4,x,6\n", 422, "line 2, column 'b c'", "expected a number, found 'x'"),
        (b"1,2,3\n4,1_000,6\n", 422, "line 2, column 'b c'", "expected a number, found '1_000'"),
        (b"1,2,3\n4,,6\n", 422, "line 2, column 'b c'", "expected a number, found ''"),
        (b"1,2,3\n4,nan,6\n", 422, "line 2, column 'b c'", "within float32, found nan"),
        (b"1,2,3\n4,-1e39,6\n", 422, "line 2, column 'b c'", "within float32, found -1e+39"),
        (b"a,b c,x\n1,2,3\n", 422, "line 1", "unknown feature 'x'"),
        (b"a,a,b c\n1,2,3\n", 400, "line 1", "the column 'a' stands twice"),
        (b"1,2\r3,4", 422, "line 1", "expected 3 values, found 2"),
        (b"x" * 200_000, 400, "line 1", "not CSV: field larger than field limit"),
        (b'1,2,"3\n', 400, "line 1", "not CSV: unexpected end of data"),
    ],
)
def test_csv_that_does_not_fit(body: bytes, status: int, where: str | None, detail: str) -> None:
    """Every refusal has its status, its line and column, and what was expected and found."""
    with pytest.raises(BadInput) as caught:
        csv_rows.rows_from_csv(body, FEATURES, MOST_ROWS)
    assert (status, detail in str(caught.value)) == (caught.value.status, True), str(caught.value)
    assert where is None or str(caught.value.where).startswith(where)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(mark: str, start: str, end: str) -> None:
    """Comma, semicolon or tab, with or without a byte-order mark, either line end; spaces around names and cells."""
    header = mark.join([" b c ", '"größe, €"', "a"])
    body = f"{start}{header}{end}2 {mark}3{mark} 1{end}"
    assert [[1, 2, 3]] == csv_rows.rows_from_csv(body.encode(), FEATURES, MOST_ROWS).tolist()


def test_header_of_numbers() -> None:
    """Where the features are called 0, 1, 2, a first line of just these names is a header."""
    assert [[5, 6, 7]] == csv_rows.rows_from_csv(b"2,1,0\n7,6,5\n", ("0", "1", "2"), 1).tolist()


def test_csv_without_a_header() -> None:
    """A first line of numbers is a row."""
    assert [[1, 2, 3], [4, 5, 6]] == csv_rows.rows_from_csv(
        b"1,2,3\n4,5,6", FEATURES, MOST_ROWS
    ).tolist()


@pytest.mark.parametrize(
    ("body", "status", "where", "detail"),
    [
        (b"", 400, None, "the body is empty"),
        (
            b"\0" * 13,
            422,
            None,
            "expected a multiple of 12 bytes (3 float32 values a row), found 13",
        ),
        (
            np.array([[0, 0, 0], [0, np.nan, 0]], "<f4").tobytes(),
            422,
            "row 1, column 1",
            "expected a finite number, found nan",
        ),
    ],
)
def test_bytes_that_do_not_fit(body: bytes, status: int, where: str | None, detail: str) -> None:
    """Bytes that are not whole rows of finite numbers are refused with the place."""
    with pytest.raises(BadInput) as caught:
        rows_from_bytes(body, FEATURES, MOST_ROWS)
    assert (status, where, detail) == (caught.value.status, caught.value.where, str(caught.value))


def test_kept_parsers_share_nothing() -> None:
    """Rows stay what they are while later bodies are read by the same parser, good ones and bad."""
    bodies = [b'{"instances": [[%d, 2, 3]]}' % number for number in range(9)]
    found = []
    for body in bodies:
        found.append(json_rows.rows_from_member(body, "instances", 3, MOST_ROWS))
        assert json_rows.rows_from_member(body[:-2], "instances", 3, MOST_ROWS) is None
        assert (
            json_rows.rows_from_member(body.replace(b"2", b"[2]"), "instances", 3, MOST_ROWS)
            is None
        )
    assert [[[number, 2, 3]] for number in range(9)] == [
        rows.tolist() for rows in found if rows is not None
    ]
