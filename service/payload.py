"""Request bodies as rows: bytes in, (rows, in_features) float32 out, or a BadInput that names the place.

Pure functions; nothing here knows HTTP or the model beyond its feature names. The fast path of each
form checks whole columns at C speed; only when a check fails does a slow path look for the place.
What is more than the caps allow is refused before it becomes an array.
"""

import csv
import io
import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Instances = list[Any]

NUMBERS = {int, float}
"""What JSON's numbers are in Python; bool is neither, by type()."""
LONG = 80
"""Characters of a caller's text that a message or a place shows."""
BESIDE = 1 << 12
"""Values that JSON may hold beside the numbers of as many rows as are allowed: a few rows more are named as such."""
MOST_NESTED = 1024
"""Levels of JSON: orjson's and simdjson's own limit; the slow look for duplicate keys gives up some levels earlier."""
SMALL = 1 << 12
"""Bytes of JSON that orjson and numpy read about as fast as simdjson does."""
KEPT = 1 << 20
"""Bytes of JSON whose parser is kept: it keeps some ten times as much memory as the largest body that it parsed."""
FEW = 1 << 12
"""Values over which BLAS does not call other threads to help."""
LARGEST_SQUARE = float(np.finfo(np.float32).max) ** 2
UNPARSEABLE = 400
TOO_LARGE = 413
WRONG_FOR_THIS_MODEL = 422


_parsers: deque[simdjson.Parser] = deque(maxlen=2)
"""At rest, with memory that the system need not give again; of none is a document alive, which it would refuse."""


class BadInput(ValueError):
    """A body that cannot be used.

    Attributes:
        status: 400 when it cannot be parsed, 413 when it is too much, 422 when it does not fit this model.
        where: the place in the body, such as instances[3][17], or None for the whole of it.
    """

    def __init__(self, detail: str, *, where: str | None = None, status: int = WRONG_FOR_THIS_MODEL) -> None:
        super().__init__(detail)
        self.status = status
        self.where = where


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
    _cap_values(body, most_values)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit exceeded" in str(error):
            raise _too_deep() from None
        raise BadInput(f"not JSON: {error}", status=UNPARSEABLE) from None
    # Every key is followed by one colon, and orjson keeps the last of equal keys: as many colons as keys
    # means no duplicate. More colons may also stand in strings, so only the slow parser can tell.
    if _count(body, b":") != _keys(document):
        _refuse_duplicates(body)
    return document


def rows_of_member(body: bytes, member: str, width: int, most_rows: int) -> Rows | None:
    """Read {"member": [[...], ...]} from JSON straight into (rows, width) float32, where nothing is wrong with it.

    It makes no Python object per number, and takes a third of the time that orjson and numpy do; what it reads,
    load_json and from_instances read alike.

    Returns:
        None for anything else, a fault or another form: whoever asks then finds out which.
    """
    if body[:1] != b"{":
        return None
    try:
        parser = _parsers.pop()
    except IndexError:
        parser = simdjson.Parser()
    wide = _flat(parser, body, member, width, most_rows)
    if wide is None:
        return None
    if len(body) <= KEPT:
        _parsers.append(parser)
    if wide.size <= FEW and np.vdot(wide, wide) < LARGEST_SQUARE:  # then float32 holds every one of them
        return wide.astype(np.float32).reshape(-1, width)
    narrow = _float32(wide.reshape(-1, width))
    return narrow if np.isfinite(narrow).all() else None


def _flat(parser: Any, body: bytes, member: str, width: int, most_rows: int) -> NDArray[np.float64] | None:
    """Return the values of the rows of a member; None where they are not such rows."""
    try:
        document = parser.parse(body)
        rows = document[member]
        count = len(rows)
        # The buffer is flat: no row may be longer than another, and none may hold a list.
        if len(document) != 1 or not 0 < count <= most_rows or _count(body, b"[") != count + 1:
            return None
        for row in rows:
            if len(row) != width:
                return None
        return np.frombuffer(rows.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None


def all_finite(values: NDArray[np.floating]) -> bool:
    """Say whether every value is finite; of a few values, by one call of BLAS instead of two passes of NumPy."""
    if values.size <= FEW and math.isfinite(np.vdot(values, values)):  # dot() would warn of what overflows
        return True
    return bool(np.isfinite(values).all())


def load_around(body: bytes, place: Sequence[str | int], most: int) -> Any | None:
    """Parse JSON with the list at a place straight into float32, the rest as load_json does.

    This is rows_of_member for a document that says more.

    Args:
        body: of a request.
        place: where the list stands, of numbers or of rows of them: ("inputs", 0, "data").
        most: numbers in it.

    Returns:
        None where there may be a fault, or another form: load_json then finds out which.
    """
    if body[:1] != b"{" or len(body) < SMALL:
        return None
    try:
        _cap_values(body, most)  # a BadInput is a ValueError
        document: Any = simdjson.Parser().parse(body)
        found = document
        for step in place:
            found = found[step]
        shape = (len(found), len(found[0])) if isinstance(found[0], simdjson.Array) else (len(found),)
        if math.prod(shape) > most or (len(shape) == 2 and {len(row) for row in found} != {shape[1]}):
            return None
        holder = rest = _python(document, place)
        # The buffer is flat, and of equal keys one is kept: nothing may be nested in a row, and no key stand twice.
        text = orjson.dumps(rest)
        lists = text.count(b"[") + (shape[0] + 1 if len(shape) == 2 else 1)
        if _count(body, b"[") != lists or _count(body, b":") != text.count(b":") or _count(body, b"\\"):
            return None
        values = _float32(np.frombuffer(found.as_buffer(of_type="d"), np.float64).reshape(shape))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
        return None
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = values
    return rest if np.isfinite(values).all() else None


def from_instances(instances: Any, features: Sequence[str], most_rows: int, where: str = "instances") -> Rows:
    """Turn a list of rows, or of records by feature name, into (rows, in_features) float32.

    Raises:
        BadInput: 422, with the place of the first value that does not fit; 413 for too many rows.
    """
    if type(instances) is not list:
        raise BadInput(f"expected a list of rows or records, found {shown(instances)}", where=where)
    _cap(len(instances), most_rows, where)
    matrix = _matrix(instances, features)
    if matrix is None:
        raise _fault(instances, features, where)
    return matrix


def from_numbers(values: list[Any], where: str) -> Rows:
    """Turn a list of numbers into float32, (len(values),).

    Raises:
        BadInput: 422, with the place of the first value that does not fit.
    """
    if not set(map(type, values)) <= NUMBERS:
        index = next(index for index, value in enumerate(values) if type(value) not in NUMBERS)
        raise BadInput(f"expected a number, found {shown(values[index])}", where=f"{where}[{index}]")
    numbers = _float32(values)
    if not (finite := np.isfinite(numbers)).all():
        index = int(finite.argmin())
        raise BadInput(f"expected a number within float32, found {values[index]:g}", where=f"{where}[{index}]")
    return numbers


def from_csv(body: bytes, features: Sequence[str], most_rows: int) -> Rows:
    """Parse CSV; the first line is a header iff it holds a non-number, and may then reorder the columns.

    Raises:
        BadInput: 400 when it is not text, 422 with line and column when a cell does not fit; 413 for too many rows.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 at byte {error.start}", status=UNPARSEABLE) from None
    mark = separator((text.lstrip("\r\n").splitlines() or [""])[0], len(features))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    order: Sequence[int] = range(len(features))
    names: Sequence[str] = features
    rows: list[list[float]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not rows and names is features and _is_header(cells, features):
                names = [cell.strip() for cell in cells]
                order = _columns(names, features)
                continue
            if len(cells) != len(features):
                raise BadInput(f"expected {len(features)} values, found {len(cells)}", where=f"line {reader.line_num}")
            _cap(len(rows) + 1, most_rows, f"line {reader.line_num}")
            rows.append([_number(cells[i], reader.line_num, names[i]) for i in order])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise BadInput(f"not CSV: {error}", where=f"line {reader.line_num}", status=UNPARSEABLE) from None
    if not rows:
        raise BadInput("no rows in the body", status=UNPARSEABLE)
    matrix = _float32(rows)
    if (place := _not_finite(matrix)) is not None:
        i, j = place
        detail = f"expected a number within float32, found {rows[i][j]:g}"
        raise BadInput(detail, where=f"line {lines[i]}, column '{features[j]}'")
    return matrix


def separator(first: str, width: int | None = None) -> str:
    """Return what separates the cells of a CSV's first line: the separator that gives `width` cells, or the most."""

    def cells(mark: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=mark), []))
        except csv.Error:  # uncut, a long line is longer than a cell may be
            return 0

    counts = {mark: cells(mark) for mark in ",;\t|"}
    return next((mark for mark, count in counts.items() if count == width), max(counts, key=counts.__getitem__))


def near_miss(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of the known names, or an empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""


def shown(value: Any) -> str:
    """Name a JSON value for a message: its type, and itself where that is short."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        value = value[:LONG]  # as JSON it may be six times as long
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:40] + " ..."


def from_bytes(body: bytes, features: Sequence[str], most_rows: int) -> Rows:
    """Read little-endian float32, row-major; the number of rows follows from the length.

    Raises:
        BadInput: the length is not whole rows, or a value is not finite; 413 for too many rows.
    """
    if not body:
        raise BadInput("the body is empty", status=UNPARSEABLE)
    width = 4 * len(features)
    if len(body) % width:
        raise BadInput(
            f"expected a multiple of {width} bytes ({len(features)} float32 values a row), found {len(body)}"
        )
    _cap(len(body) // width, most_rows)
    rows = np.frombuffer(body, dtype="<f4").reshape(-1, len(features))
    if (place := _not_finite(rows)) is not None:
        i, j = place
        raise BadInput(f"expected a finite number, found {rows[i, j]}", where=f"row {i}, column {j}")
    return rows.astype(np.float32, copy=False)  # native byte order


def _cap(rows: int, most_rows: int, where: str | None = None) -> None:
    if rows > most_rows:
        raise BadInput(f"expected at most {most_rows} rows, found {rows} or more", where=where, status=TOO_LARGE)


def _cap_values(body: bytes, most_values: int) -> None:
    """Refuse JSON of more values than are allowed, by what each of them needs: a comma before it, or a bracket."""
    most = most_values + BESIDE
    if len(body) <= most:
        return
    for mark, name in ((b",", "commas"), (b"[", "brackets"), (b"{", "braces")):
        # Text may hold them too, a feature's name say: what is in strings is left out where it matters.
        if _count(body, mark) > most and (found := _count(_without_strings(body), mark)) > most:
            detail = f"expected at most {most} values in the JSON, found more: {found} {name} outside strings"
            raise BadInput(detail, status=TOO_LARGE)


def _without_strings(body: bytes) -> bytes:
    """Return JSON without what its strings hold."""
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.bitwise_xor.accumulate(text == ord('"'))
    return text[~inside].tobytes()


def _too_deep() -> BadInput:
    return BadInput(f"expected at most {MOST_NESTED} nested levels, found more", status=UNPARSEABLE)


def _count(body: bytes, character: bytes) -> int:
    """Count a character; NumPy takes a quarter of the time where the body is large, and longer where it is not."""
    if len(body) < 1 << 14:
        return body.count(character)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


def _python(value: Any, without: Sequence[str | int]) -> Any:
    """Return what simdjson read as Python's objects, with None at a place."""
    if not without:
        return None

    def member(name: str | int) -> Any:  # items() would make a Python object per number
        return _python(value[name], without[1:]) if name == without[0] else _plain(value[name])

    if isinstance(value, simdjson.Object):
        return {name: member(name) for name in value}
    return [member(index) for index in range(len(value))]


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _keys(document: Any) -> int:
    """Count the keys where this service expects any: of the document, the objects it lists, and their parameters."""
    if type(document) is not dict:
        return 0
    lists = (value for value in document.values() if type(value) is list)
    objects = [document, *(item for items in lists for item in items if type(item) is dict)]
    parameters = (found for item in objects if type(found := item.get("parameters")) is dict)
    return sum(map(len, objects)) + sum(map(len, parameters))


def _twice(names: Iterable[str]) -> str | None:
    """Return the first name that stands twice; looked for pair by pair, a body full of names takes hours."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


class _Duplicate:
    """Stands where the slow parser found an object with a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


def _refuse_duplicates(body: bytes) -> None:
    duplicates = []

    def members(pairs: list[tuple[str, Any]]) -> Any:
        if len(found := dict(pairs)) == len(pairs):
            return found
        duplicates.append(_Duplicate(_twice(key for key, _ in pairs) or ""))
        return duplicates[-1]

    def search(value: Any, where: str) -> None:
        match value:
            case _Duplicate():
                detail = f"the key {shown(value.key)} stands twice"
                raise BadInput(detail, where=where or None, status=UNPARSEABLE)
            case list():
                for index, item in enumerate(value):
                    search(item, _cut(f"{where}[{index}]"))
            case dict():
                for key, item in value.items():
                    search(item, _cut(f"{where}.{key[:LONG]}" if where else key))

    try:
        document = json.loads(body, object_pairs_hook=members)
        if duplicates:
            search(document, "")
    except RecursionError:
        raise _too_deep() from None


def _matrix(instances: Instances, features: Sequence[str]) -> Rows | None:
    """Return the rows, or None when anything at all is wrong with them."""
    width = len(features)
    kinds = set(map(type, instances))
    if kinds == {dict}:
        if set(map(len, instances)) != {width}:
            return None
        try:
            instances = [[record[name] for name in features] for record in instances]
        except KeyError:
            return None
    elif not kinds <= {list} or not set(map(len, instances)) <= {width}:
        return None
    if not set(map(type, chain.from_iterable(instances))) <= NUMBERS:
        return None
    rows = _float32(instances).reshape(-1, width)
    return rows if _not_finite(rows) is None else None


def _fault(instances: Instances, features: Sequence[str], where: str) -> BadInput:
    """Find the first place at which instances do not fit."""
    first, known = type(instances[0]), set(features)
    for i, row in enumerate(instances):
        place = f"{where}[{i}]"
        if type(row) not in (list, dict):
            return BadInput(f"expected a list or an object, found {shown(row)}", where=place)
        if type(row) is not first:
            return BadInput("rows and records do not mix in one request", where=place)
        if first is dict and row.keys() != known:
            return BadInput(_wrong_names(list(row), features) or "", where=place)
        if len(row) != len(features):
            return BadInput(f"expected {len(features)} values, found {len(row)}", where=place)
        cells = [row[name] for name in features] if first is dict else row
        for j, value in enumerate(cells) if not set(map(type, cells)) <= NUMBERS else ():
            if type(value) not in NUMBERS:
                return BadInput(f"expected a number, found {shown(value)}", where=_cell(place, j, first, features))
    values = [[row[name] for name in features] for row in instances] if first is dict else instances
    i, j = _not_finite(_float32(values)) or (0, 0)
    found = f"expected a number within float32, found {values[i][j]:g}"
    return BadInput(found, where=_cell(f"{where}[{i}]", j, first, features))


def _cell(place: str, column: int, kind: type, features: Sequence[str]) -> str:
    return f"{place}[{json.dumps(features[column], ensure_ascii=False) if kind is dict else column}]"


def _wrong_names(found: Sequence[str], features: Sequence[str]) -> str | None:
    known, given = set(features), set(found)
    for name in found:
        if name not in known:
            return f"unknown feature '{name[:LONG]}'{near_miss(name[:LONG], features)}"
    missing = next((name for name in features if name not in given), None)
    return f"missing feature '{missing}'" if missing is not None else None


def _is_header(cells: Sequence[str], features: Sequence[str]) -> bool:
    if {cell.strip() for cell in cells} == set(features):  # the names themselves may be numbers: 0, 1, 2
        return True
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return True
    return False


def _columns(names: Sequence[str], features: Sequence[str]) -> list[int]:
    """Return where in a header each feature stands."""
    if (name := _twice(names)) is not None:
        raise BadInput(f"the column '{name[:LONG]}' stands twice", where="line 1", status=UNPARSEABLE)
    if problem := _wrong_names(names, features):
        raise BadInput(problem, where="line 1")
    return [names.index(name) for name in features]


def _number(cell: str, line: int, column: str) -> float:
    try:
        if not cell.isascii() or "_" in cell:  # Python's float() takes 1_000 and digits of other scripts
            raise ValueError
        return float(cell)
    except ValueError:
        place = f"line {line}, column '{column}'"
        raise BadInput(f"expected a number, found '{_cut(cell.strip())}'", where=place) from None


def _cut(text: str) -> str:
    """Return a caller's text for a message or a place, where it may be as long as the body."""
    return text if len(text) <= LONG else text[:LONG] + " ..."


def _float32(values: Any) -> Rows:
    """Round to float32 by way of float64; what overflows becomes infinite, for _not_finite to find."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def _not_finite(rows: Rows) -> tuple[int, int] | None:
    """Return the first place of a value that is not finite, or None."""
    finite = np.isfinite(rows)
    if finite.all():
        return None
    i, j = np.argwhere(~finite)[0].tolist()
    return i, j
