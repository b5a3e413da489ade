"""Parsing of JSON bodies: a strict parser, and two fast paths that read numbers into float32.

The fast paths use simdjson and return None for any body that may be invalid; the strict parser
then accepts it or reports the error. Limits are enforced before any array or object is allocated.
"""

import json
import math
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from service.errors import (
    TOO_LARGE,
    UNPARSEABLE,
    BadInput,
    NonFiniteToken,
    describe_value,
    first_duplicate,
    shorten,
)
from service.protocols.rows import to_float32
from service.runtime.session import MAX_BLAS_VALUES, Rows

MAX_EXTRA_VALUES = 1 << 12
"""Maximum number of JSON values outside the rows.

The margin lets a body with slightly too many rows fail at the row limit, with a clearer message.
"""
MAX_DEPTH = 1024
"""Maximum number of nested JSON levels: the limit of orjson and simdjson, close to Python's."""
TOO_DEEP = f"expected at most {MAX_DEPTH} nested levels, found more"
MIN_SIMDJSON_BYTES = 1 << 12
"""Size in bytes below which orjson and NumPy are about as fast as simdjson."""
MAX_POOLED_BODY_BYTES = 1 << 20
"""Maximum size in bytes of a body whose parser is pooled; its buffers are ten times as large."""
MIN_NUMPY_COUNT_BYTES = 1 << 14
"""Size in bytes from which NumPy counts a character four times as fast as bytes.count."""
MAX_FLOAT32_SQUARED = float(np.finfo(np.float32).max) ** 2
_parser_pool: deque[simdjson.Parser] = deque(maxlen=2)
"""Idle parsers, kept to reuse their buffers.

A parser may be pooled only after its document has been released: otherwise, parse() raises.
"""


def load_json(body: bytes, max_values: int) -> Any:
    """Parse strict JSON: UTF-8, with or without a byte-order mark, and no duplicate keys.

    The rows may hold `max_values` values; the rest of the JSON may hold MAX_EXTRA_VALUES. NaN and
    Infinity become NonFiniteToken. Raise BadInput: 400 with the parser's position or the duplicate
    key, 413 for too many values.
    """
    body = body.removeprefix(BOM_UTF8)
    if not body.strip():
        raise BadInput("the body is empty", status=UNPARSEABLE)
    _require_value_count(body, max_values)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth" in str(error):  # the wording differs between versions of orjson
            raise BadInput(TOO_DEEP, status=UNPARSEABLE) from None
        document = _with_non_finite_tokens(body)
        if document is None:
            raise BadInput(f"not JSON: {error}", status=UNPARSEABLE) from None
    # Every key is followed by one colon, and orjson drops duplicate keys, so equal counts of colons
    # and keys rule out duplicates. Otherwise the slow parser decides, as strings may hold colons.
    if _count_byte(body, b":") != _count_keys(document):
        _reject_duplicates(body)
    return document


def rows_from_member(body: bytes, member: str, width: int, max_rows: int) -> Rows | None:
    """Read {"member": [[...], ...]} straight into (rows, width) float32.

    It creates no Python object per number and takes a third of the time of orjson and NumPy.
    The result equals that of load_json and rows_from_instances bit for bit. Return None for any
    other body, which load_json then parses or rejects.
    """
    if body[:1] != b"{":
        return None
    try:
        parser = _parser_pool.pop()
    except IndexError:
        parser = simdjson.Parser()
    wide = _flat_values(parser, body, member, width, max_rows)
    if wide is None:
        return None
    if len(body) <= MAX_POOLED_BODY_BYTES:
        _parser_pool.append(parser)
    # If the sum of squares is below the square of float32's largest number, every value fits.
    if wide.size <= MAX_BLAS_VALUES and np.vdot(wide, wide) < MAX_FLOAT32_SQUARED:
        return wide.astype(np.float32).reshape(-1, width)
    narrow = to_float32(wide.reshape(-1, width))
    return narrow if np.isfinite(narrow).all() else None


def load_with_array(body: bytes, place: Sequence[str | int], max_values: int) -> Any | None:
    """Parse JSON like load_json, but read the list at `place` straight into a float64 array.

    `place` is the path of a list of numbers or of rows, such as ("inputs", 0, "data"), that may
    hold `max_values` values. Return None for any other body, which load_json parses or rejects.
    """
    if body[:1] != b"{" or len(body) < MIN_SIMDJSON_BYTES:
        return None
    try:
        _require_value_count(body, max_values)  # raises BadInput, a ValueError
        document: Any = simdjson.Parser().parse(body)
        target = document
        for step in place:
            target = target[step]
        nested = isinstance(target[0], simdjson.Array)
        shape = [len(target), len(target[0])] if nested else [len(target)]
        if math.prod(shape) > max_values or (nested and {len(row) for row in target} != {shape[1]}):
            return None
        holder = rest = _to_python(document, place)
        # as_buffer() flattens nested lists, and simdjson drops duplicate keys. Equal counts of
        # brackets and colons prove that no row holds a list and that no key appears twice.
        text = orjson.dumps(rest)
        brackets = text.count(b"[") + (shape[0] + 1 if nested else 1)
        if _count_byte(body, b"[") != brackets or _count_byte(body, b"\\"):
            return None
        if _count_byte(body, b":") != text.count(b":"):
            return None
        values = np.frombuffer(target.as_buffer(of_type="d"), np.float64).reshape(shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
        return None
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = values
    return rest


def _with_non_finite_tokens(body: bytes) -> Any | None:
    """Parse JSON with the tokens NaN, Infinity or -Infinity; return None for an error elsewhere.

    Every check of a value rejects a NonFiniteToken and names its place.
    """
    if b"NaN" not in body and b"Infinity" not in body:
        return None
    try:
        text = body.decode()
        document = json.loads(text, parse_constant=NonFiniteToken, parse_int=_parse_integer)
        orjson.dumps(document)  # rejects lone surrogates, which json accepts
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return document


def _parse_integer(text: str) -> int | float:
    """Return an integer of less than 64 bits, or a float, which rounds to the same float32."""
    number = int(text)
    return number if number.bit_length() < 64 else float(number)


def _flat_values(
    parser: Any, body: bytes, member: str, width: int, max_rows: int
) -> NDArray[np.float64] | None:
    """Return a member's rows as one flat array, or None if any is not a list of `width` values."""
    try:
        document = parser.parse(body)
        rows = document[member]
        count = len(rows)
        # as_buffer() flattens nested lists, so check each row's length and the bracket count.
        if len(document) != 1 or not 0 < count <= max_rows or _count_byte(body, b"[") != count + 1:
            return None
        for row in rows:
            if len(row) != width:
                return None
        return np.frombuffer(rows.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None


def _require_value_count(body: bytes, max_values: int) -> None:
    """Raise BadInput (413) for too many values, counted by commas, brackets and braces."""
    limit = max_values + MAX_EXTRA_VALUES
    if len(body) <= limit:
        return
    for mark, name in ((b",", "commas"), (b"[", "brackets"), (b"{", "braces")):
        # Strings may hold these characters too, but removing the strings is slow.
        if _count_byte(body, mark) > limit:
            count = _count_byte(_without_strings(body), mark)
            if count > limit:
                detail = f"found {count} {name} outside strings"
                expected = f"expected at most {limit} values in the JSON"
                raise BadInput(f"{expected}, {detail}", status=TOO_LARGE)


def _without_strings(body: bytes) -> bytes:
    """Return JSON text without the contents of its strings."""
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.bitwise_xor.accumulate(text == ord('"'))
    return text[~inside].tobytes()


def _count_byte(body: bytes, character: bytes) -> int:
    if len(body) < MIN_NUMPY_COUNT_BYTES:
        return body.count(character)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


def _to_python(value: Any, without: Sequence[str | int] | None) -> Any:
    """Convert a simdjson value to Python objects, with None at the path `without`, if given."""
    is_object = isinstance(value, simdjson.Object)
    if without is None:
        if is_object:
            return value.as_dict()
        return value.as_list() if isinstance(value, simdjson.Array) else value
    if not without:
        return None
    members = {}
    for key in value if is_object else range(len(value)):  # items() would convert every number
        members[key] = _to_python(value[key], without[1:] if key == without[0] else None)
    return members if is_object else list(members.values())


def _count_keys(document: Any) -> int:
    """Count the keys of the document, of the objects in its lists, and of their parameters."""
    if type(document) is not dict:
        return 0
    lists = (value for value in document.values() if type(value) is list)
    objects = [document, *(item for items in lists for item in items if type(item) is dict)]
    parameters = (value for item in objects if type(value := item.get("parameters")) is dict)
    return sum(map(len, objects)) + sum(map(len, parameters))


def _reject_duplicates(body: bytes) -> None:
    """Raise BadInput with the path of the first object in which a key appears twice."""
    duplicates = []

    def to_object(pairs: list[tuple[str, Any]]) -> Any:
        if len(members := dict(pairs)) == len(pairs):
            return members
        detail = f"the key {describe_value(first_duplicate(key for key, _ in pairs))} appears twice"
        duplicates.append(BadInput(detail, status=UNPARSEABLE))
        return duplicates[-1]  # takes the place of the object until search() finds it

    def search(value: Any, where: str) -> None:
        match value:
            case BadInput():
                value.where = where or None
                raise value
            case list():
                for index, item in enumerate(value):
                    search(item, shorten(f"{where}[{index}]"))
            case dict():
                for key, item in value.items():
                    search(item, shorten(f"{where}.{shorten(key)}" if where else key))

    try:
        document = json.loads(body, object_pairs_hook=to_object)
        if duplicates:
            search(document, "")
    except RecursionError:
        raise BadInput(TOO_DEEP, status=UNPARSEABLE) from None
