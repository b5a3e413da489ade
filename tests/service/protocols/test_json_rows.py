"""Tests of service.protocols.json_rows: the strict parser and the fast paths agree."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NonFiniteToken
from service.protocols import json_rows
from service.protocols.json_rows import load_json, load_with_array, rows_from_member
from service.protocols.rows import rows_from_instances
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import json_values

FEATURES = ("a", "b", "c")
MAX_ROWS = 1000
MAX_VALUES = 10 + json_rows.MAX_EXTRA_VALUES
LONG_TEXT = "x" * 100_000

numbers = st.integers() | st.floats() | st.integers(-(2**70), 2**70) | st.just(1e39)
cells = numbers | st.none() | st.booleans() | st.text(max_size=3) | st.lists(numbers, max_size=2)
rows_of_cells = st.lists(numbers, min_size=3, max_size=3) | st.lists(cells, max_size=4) | cells
noises = ["", " ", "\ufeff", "[", "]", ',"instances":[]', ',"a":[1]', '"', "\x00", "}"]


def strict(body: str | bytes) -> Rows:
    """Read the instances of a body without the fast path."""
    document = load_json(body.encode() if isinstance(body, str) else body, MAX_ROWS * 3)
    return rows_from_instances(document["instances"], FEATURES, MAX_ROWS)


def fast(body: str | bytes) -> Rows | None:
    """Read the instances of a body by the fast path alone."""
    encoded = body.encode() if isinstance(body, str) else body
    return rows_from_member(encoded, "instances", 3, MAX_ROWS)


@pytest.fixture
def _simdjson_always() -> Iterator[None]:
    """Use simdjson for bodies of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", 0)
        yield


@given(
    st.lists(rows_of_cells, max_size=4),
    st.sampled_from(["instances", "rows"]),
    st.sampled_from(noises),
    st.integers(0, 60),
)
def test_fast_path_agrees(rows: Any, member: str, noise: str, position: int) -> None:
    """If the fast path reads a body, the strict parser reads rows with the same bits."""
    text = json.dumps({member: rows})
    text = text[:position] + noise + text[position:]
    if (actual := fast(text)) is not None:
        assert strict(text).tobytes() == actual.tobytes()


@pytest.mark.parametrize("count", [1, MAX_ROWS])
@pytest.mark.parametrize("row", [[1, 2, 3], [0.1, -2.5e-30, 3e38]])
def test_fast_path_reads_rows_of_numbers(row: list[float], count: int) -> None:
    """The fast path reads rows within float32 in small and in large bodies."""
    rows = fast(json.dumps({"instances": [row] * count}))
    assert rows is not None
    assert np.array_equal(np.full((count, 3), row, np.float32), rows)


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[[1,[2],3]]}',
        '{"instances":[[1,2],[3,4,5,6]]}',
        '{"instances":[]}',
        '{"instances":[[1,2,true]]}',
        '{"instances":[[1,2,1e39]]}',
        '{"instances":[[1,2,3]],"x":[]}',
        '\ufeff{"instances":[[1,2,3]]}',
        '{"instances":[' + ",".join(["[1,2,3]"] * (MAX_ROWS + 1)) + "]}",
    ],
    ids=lambda body: body[:40],
)
def test_fast_path_declines(body: str) -> None:
    """The fast path returns None for anything but a matrix of numbers within float32."""
    assert fast(body) is None


def test_pooled_parsers_share_nothing() -> None:
    """Rows keep their values while the same parser reads later bodies, valid and invalid."""
    matrices = []
    for number in range(9):
        body = b'{"instances": [[%d, 2, 3]]}' % number
        rows = fast(body)
        assert rows is not None
        matrices.append(rows)
        assert fast(body[:-2]) is None
        assert fast(body.replace(b"2", b"[2]")) is None
    assert [[[number, 2, 3]] for number in range(9)] == [rows.tolist() for rows in matrices]


@pytest.mark.parametrize(
    ("body", "where", "detail"),
    [
        ("", None, "the body is empty"),
        ("{", None, "not JSON"),
        ('{"instances": [[1, 2, NaN]}', None, "not JSON"),
        ('{"instances": [[1, 2, NaN]], "\\ud800": 1}', None, "not JSON"),
        ('{"a": NaN, "b": %s}' % ("9" * 400), None, "not JSON"),
        ('{"a": NaN, "b": %s}' % ("9" * 5000), None, "not JSON"),
        ('{"a": NaN, "a": 1}', None, 'the key "a" appears twice'),
        ("[" * 1025 + "]" * 1025, None, "expected at most 1024 nested levels, found more"),
        pytest.param(
            '{"a:": ' * 1024 + "1" + "}" * 1024,
            None,
            "expected at most 1024 nested levels, found",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 12), reason="Python 3.12 parses 1024 levels"
            ),
        ),
        ('{"a": [], "a": []}', None, 'the key "a" appears twice'),
        ('{"a": [{"b": 1, "c": 2, "b": 3}]}', "a[0]", 'the key "b" appears twice'),
        ('{"a": [{"parameters": {"b": 1, "b": 2}}]}', "a[0].parameters", 'the key "b" appears'),
    ],
    ids=lambda value: value[:30] if value else None,
)
def test_json_that_does_not_parse(body: str, where: str | None, detail: str) -> None:
    """The error has status 400 and locates the object with a duplicate key."""
    actual = refusal(load_json, body.encode(), 3000)
    assert (400, where) == actual[:2]
    assert detail in actual[2]


def test_tokens_that_json_does_not_have() -> None:
    """A byte-order mark is skipped, and NaN and infinities are read as tokens, not as numbers."""
    body = b'\xef\xbb\xbf{"a": [NaN, -Infinity, {"b": Infinity}, %d]}'
    document = load_json(body % 10**25, 10)
    assert {"a": ["NaN", "-Infinity", {"b": "Infinity"}, 1e25]} == document
    tokens = (*document["a"][:2], document["a"][2]["b"])
    assert {NonFiniteToken} == set(map(type, tokens))


@pytest.mark.parametrize(
    "body",
    [
        f'{{"{LONG_TEXT}": 1, "{LONG_TEXT}": 1}}',
        f'{{"{LONG_TEXT}":' * 100 + '{"a": 1, "a": 2}' + "}" * 100,
        "[" * 500 + '{"a": 1, "a": 2}' + "]" * 500,
        f'{{"instances": "{LONG_TEXT}"}}',
        f'{{"instances": [{{"{LONG_TEXT}": 1}}]}}',
    ],
    ids=range(5),
)
def test_errors_are_short(body: str) -> None:
    """Messages and locations are short, even if the text in the body is long."""
    _, where, detail = refusal(strict, body)
    assert len(detail) < 200
    assert len(where or "") < 200


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.data())
def test_duplicate_keys_with_colons_in_strings(record: dict[str, Any], data: st.DataObject) -> None:
    """Colons in strings do not affect the detection of duplicate keys."""
    members = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in record.items()]
    load_json(f'{{"instances":[{{{",".join(members)}}}]}}'.encode(), len(members))
    duplicate = data.draw(st.sampled_from(list(record)))
    members.insert(data.draw(st.integers(0, len(members))), f"{json.dumps(duplicate)}:1")
    body = f'{{"instances":[{{{",".join(members)}}}]}}'.encode()
    assert (400, "instances[0]") == refusal(load_json, body, len(members))[:2]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("[" + "[[[]]]," * MAX_VALUES + "1]", f"{3 * MAX_VALUES + 1} brackets"),
        ("[" + '{"a":{"a":1}},' * MAX_VALUES + "1]", f"{2 * MAX_VALUES} braces"),
        (r'["\\", "\\\""' + ",1" * MAX_VALUES + "]", f"{MAX_VALUES + 1} commas"),
        ("," * (MAX_VALUES + 1), f"{MAX_VALUES + 1} commas"),
    ],
    ids=lambda value: value[:20],
)
def test_too_many_values(monkeypatch: pytest.MonkeyPatch, body: str, count: str) -> None:
    """Too many values give status 413 before the parser creates them."""
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("the body was parsed"))
    limit = f"expected at most {MAX_VALUES} values in the JSON"
    detail = f"{limit}, found {count} outside strings"
    assert (413, None, detail) == refusal(load_json, body.encode(), 10)


@pytest.mark.parametrize("name", ["," * 9, "[{,]" * 9, r"\",\\" * 9, "\u20ac,,,,,,"])
def test_punctuation_in_strings_is_not_counted(name: str) -> None:
    """Commas and brackets in feature names do not count towards the limit of values."""
    records = [{name: index, "b": 2} for index in range(MAX_ROWS)]
    body = json.dumps({"instances": records}).encode()
    assert {"instances": records} == load_json(body, MAX_ROWS * 2)


@pytest.mark.usefixtures("_simdjson_always")
@pytest.mark.parametrize(
    "data", [[1.5] * 8, [[1.5, 2, 3, 4]] * 2, [[-(2**63), 2**64 - 1, 2**53 + 1, 1e-46]]]
)
def test_array_in_a_document(data: object) -> None:
    """A list of numbers or of rows becomes a float64 array, unless a limit is exceeded."""
    content = {"id": "a[1]:2", "parameters": {"x": 1}, "inputs": [{"data": data}]}
    text = json.dumps(content, ensure_ascii=False)
    document = load_with_array(text.encode(), ("inputs", 0, "data"), 8)
    assert document is not None
    array = document["inputs"][0].pop("data")
    assert {**content, "inputs": [{}]} == document
    assert np.array_equal(np.array(data, np.float64), array)
    assert load_with_array(text.encode(), ("inputs", 0, "data"), 3) is None
    too_long = text[:-1] + ', "more": [0' + ",0" * (json_rows.MAX_EXTRA_VALUES + 8) + "]}"
    assert load_with_array(too_long.encode(), ("inputs", 0, "data"), 8) is None


@pytest.mark.usefixtures("_simdjson_always")
@given(json_values, json_values, st.integers(0, 40))
def test_array_agrees_with_the_strict_parser(data: object, other: object, number: int) -> None:
    """The strict parser and simdjson read the same document, with the data as float64."""
    content = {"id": other, "inputs": [{"data": data}], "outputs": other}
    text = json.dumps(content).encode()
    if number % 4 == 0:  # simdjson alone would drop a duplicate key.
        text = text[:1] + b'"id": 1, ' + text[1:]
    document = load_with_array(text, ("inputs", 0, "data"), 100)
    if document is not None:
        expected = load_json(text, 100)
        data = np.array(expected["inputs"][0].pop("data"), np.float64)
        array = document["inputs"][0].pop("data")
        assert (data.dtype, data.shape) == (array.dtype, array.shape)
        assert (data.tobytes(), expected) == (array.tobytes(), document)
