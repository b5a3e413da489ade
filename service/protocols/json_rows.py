"""Request bodies as rows: bytes in, (rows, in_features) float32 out, or a BadInput that names the place.

Pure functions; nothing here knows HTTP or the model beyond its feature names. The fast path of each
form checks whole columns at C speed; only when a check fails does a slow path look for the place.
What is more than the caps allow is refused before it becomes an array.
"""

import json
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from service.errors import (
    MAX_SHOWN_CHARACTERS,
    TOO_LARGE,
    UNPARSEABLE,
    BadInput,
    describe_value,
    first_duplicate,
    shorten,
)
from service.protocols.rows import to_float32
from service.runtime.finite import MAX_BLAS_VALUES
from service.runtime.session import Rows

MAX_EXTRA_VALUES = 1 << 12
"""Values that JSON may hold beside the numbers of as many rows as are allowed: a few rows more are named as such."""
MAX_DEPTH = 1024
"""Levels of JSON: orjson's and simdjson's own limit; the slow look for duplicate keys gives up some levels earlier."""
MIN_SIMDJSON_BYTES = 1 << 12
"""Bytes of JSON that orjson and numpy read about as fast as simdjson does."""
MAX_POOLED_BODY_BYTES = 1 << 20
"""Bytes of JSON whose parser is kept: it keeps some ten times as much memory as the largest body that it parsed."""
MAX_FLOAT32_SQUARED = float(np.finfo(np.float32).max) ** 2
_parser_pool: deque[simdjson.Parser] = deque(maxlen=2)
"""At rest, with memory that the system need not give again; of none is a document alive, which it would refuse."""


def load_json(body: bytes, most_values: int) -> Any:
    """Parse strict JSON: UTF-8, no NaN, no duplicate keys.

    Args:
        body: of a request.
        most_values: numbers that its rows may hold; BESIDE are allowed beside them.

    Raises:
        BadInput: 400, with the parser's place or the duplicate's; 413 for too many values, before any is made.
    """
    if not body.strip():
        raise BadInput("the body is empty", status=UNPARSEABLE)
    _require_value_count(body, most_values)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit exceeded" in str(error):
            raise _too_deep() from None
        raise BadInput(f"not JSON: {error}", status=UNPARSEABLE) from None
    # Every key is followed by one colon, and orjson keeps the last of equal keys: as many colons as keys
    # means no duplicate. More colons may also stand in strings, so only the slow parser can tell.
    if _count_byte(body, b":") != _count_keys(document):
        _reject_duplicates(body)
    return document


def rows_from_member(body: bytes, member: str, width: int, most_rows: int) -> Rows | None:
    """Read {"member": [[...], ...]} from JSON straight into (rows, width) float32, where nothing is wrong with it.

    It makes no Python object per number, and takes a third of the time that orjson and numpy do; what it reads,
    load_json and from_instances read alike.

    Returns:
        None for anything else, a fault or another form: whoever asks then finds out which.
    """
    if body[:1] != b"{":
        return None
    try:
        parser = _parser_pool.pop()
    except IndexError:
        parser = simdjson.Parser()
    wide = _flat_values(parser, body, member, width, most_rows)
    if wide is None:
        return None
    if len(body) <= MAX_POOLED_BODY_BYTES:
        _parser_pool.append(parser)
    if (
        wide.size <= MAX_BLAS_VALUES and np.vdot(wide, wide) < MAX_FLOAT32_SQUARED
    ):  # then float32 holds every one of them
        return wide.astype(np.float32).reshape(-1, width)
    narrow = to_float32(wide.reshape(-1, width))
    return narrow if np.isfinite(narrow).all() else None


def _flat_values(
    parser: Any, body: bytes, member: str, width: int, most_rows: int
) -> NDArray[np.float64] | None:
    """Return the values of the rows of a member; None where they are not such rows."""
    try:
        document = parser.parse(body)
        rows = document[member]
        count = len(rows)
        # The buffer is flat: no row may be longer than another, and none may hold a list.
        if len(document) != 1 or not 0 < count <= most_rows or _count_byte(body, b"[") != count + 1:
            return None
        for row in rows:
            if len(row) != width:
                return None
        return np.frombuffer(rows.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None


def load_with_array(body: bytes, place: Sequence[str | int], most: int) -> Any | None:
    """Parse JSON with the list at a place straight into float32, the rest as load_json does.

    This is rows_of_member for a document that says more.

    Args:
        body: of a request.
        place: where the list stands, of numbers or of rows of them: ("inputs", 0, "data").
        most: numbers in it.

    Returns:
        None where there may be a fault, or another form: load_json then finds out which.
    """
    if body[:1] != b"{" or len(body) < MIN_SIMDJSON_BYTES:
        return None
    try:
        _require_value_count(body, most)  # a BadInput is a ValueError
        document: Any = simdjson.Parser().parse(body)
        found = document
        for step in place:
            found = found[step]
        shape = (
            (len(found), len(found[0])) if isinstance(found[0], simdjson.Array) else (len(found),)
        )
        if math.prod(shape) > most or (
            len(shape) == 2 and {len(row) for row in found} != {shape[1]}
        ):
            return None
        holder = rest = _to_python(document, place)
        # The buffer is flat, and of equal keys one is kept: nothing may be nested in a row, and no key stand twice.
        text = orjson.dumps(rest)
        lists = text.count(b"[") + (shape[0] + 1 if len(shape) == 2 else 1)
        if (
            _count_byte(body, b"[") != lists
            or _count_byte(body, b":") != text.count(b":")
            or _count_byte(body, b"\\")
        ):
            return None
        values = to_float32(np.frombuffer(found.as_buffer(of_type="d"), np.float64).reshape(shape))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
        return None
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = values
    return rest if np.isfinite(values).all() else None


def _require_value_count(body: bytes, most_values: int) -> None:
    """Refuse JSON of more values than are allowed, by what each of them needs: a comma before it, or a bracket."""
    most = most_values + MAX_EXTRA_VALUES
    if len(body) <= most:
        return
    for mark, name in ((b",", "commas"), (b"[", "brackets"), (b"{", "braces")):
        # Text may hold them too, a feature's name say: what is in strings is left out where it matters.
        if (
            _count_byte(body, mark) > most
            and (found := _count_byte(_without_strings(body), mark)) > most
        ):
            detail = f"expected at most {most} values in the JSON, found more: {found} {name} outside strings"
            raise BadInput(detail, status=TOO_LARGE)


def _without_strings(body: bytes) -> bytes:
    """Return JSON without what its strings hold."""
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.bitwise_xor.accumulate(text == ord('"'))
    return text[~inside].tobytes()


def _too_deep() -> BadInput:
    return BadInput(f"expected at most {MAX_DEPTH} nested levels, found more", status=UNPARSEABLE)


def _count_byte(body: bytes, character: bytes) -> int:
    """Count a character; NumPy takes a quarter of the time where the body is large, and longer where it is not."""
    if len(body) < 1 << 14:
        return body.count(character)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


def _to_python(value: Any, without: Sequence[str | int]) -> Any:
    """Return what simdjson read as Python's objects, with None at a place."""
    if not without:
        return None

    def member(name: str | int) -> Any:  # items() would make a Python object per number
        return (
            _to_python(value[name], without[1:]) if name == without[0] else _to_plain(value[name])
        )

    if isinstance(value, simdjson.Object):
        return {name: member(name) for name in value}
    return [member(index) for index in range(len(value))]


def _to_plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _count_keys(document: Any) -> int:
    """Count the keys where this service expects any: of the document, the objects it lists, and their parameters."""
    if type(document) is not dict:
        return 0
    lists = (value for value in document.values() if type(value) is list)
    objects = [document, *(item for items in lists for item in items if type(item) is dict)]
    parameters = (found for item in objects if type(found := item.get("parameters")) is dict)
    return sum(map(len, objects)) + sum(map(len, parameters))


class _DuplicateKey:
    """Stands where the slow parser found an object with a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


def _reject_duplicates(body: bytes) -> None:
    duplicates = []

    def members(pairs: list[tuple[str, Any]]) -> Any:
        if len(found := dict(pairs)) == len(pairs):
            return found
        duplicates.append(_DuplicateKey(first_duplicate(key for key, _ in pairs) or ""))
        return duplicates[-1]

    def search(value: Any, where: str) -> None:
        match value:
            case _DuplicateKey():
                detail = f"the key {describe_value(value.key)} stands twice"
                raise BadInput(detail, where=where or None, status=UNPARSEABLE)
            case list():
                for index, item in enumerate(value):
                    search(item, shorten(f"{where}[{index}]"))
            case dict():
                for key, item in value.items():
                    search(item, shorten(f"{where}.{key[:MAX_SHOWN_CHARACTERS]}" if where else key))

    try:
        document = json.loads(body, object_pairs_hook=members)
        if duplicates:
            search(document, "")
    except RecursionError:
        raise _too_deep() from None
