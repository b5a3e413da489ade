"""Parsing of CSV bodies into float32 rows."""

import csv
import io
from collections.abc import Sequence

from service.errors import MAX_SHOWN_CHARACTERS, UNPARSEABLE, BadInput, first_duplicate, shorten
from service.protocols.rows import first_non_finite, name_mismatch, require_row_count, to_float32
from service.runtime.session import Rows
from tabular.names import find_name, names_by_key
from tabular.separator import guess_separator


def rows_from_csv(
    body: bytes, features: Sequence[str], max_rows: int
) -> tuple[Rows, Sequence[int]]:
    """Parse CSV as (rows, in_features) float32; also return the line of each row, from 1.

    The first line is a header if one of its cells is not a number; it may reorder the columns.
    Raise BadInput: 400 for a body that is not CSV, 422 with line and column for an invalid cell,
    413 for too many rows.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 at byte {error.start}", status=UNPARSEABLE) from None
    separator = guess_separator((text.lstrip("\r\n").splitlines() or [""])[0], len(features))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
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
                order = _column_order(names, features, f"line {reader.line_num}")
                continue
            if len(cells) != len(features):
                detail = f"expected {len(features)} values, found {len(cells)}"
                raise BadInput(detail, where=f"line {reader.line_num}")
            require_row_count(len(rows) + 1, max_rows, f"line {reader.line_num}")
            rows.append([_parse_cell(cells[i], reader.line_num, names[i]) for i in order])
            lines.append(reader.line_num)
    except csv.Error as error:
        where = f"line {reader.line_num}"
        raise BadInput(f"not CSV: {error}", where=where, status=UNPARSEABLE) from None
    if not rows:
        raise BadInput("no rows in the body", status=UNPARSEABLE)
    matrix = to_float32(rows)
    if (place := first_non_finite(matrix)) is not None:
        i, j = place
        detail = f"expected a number within float32, found {rows[i][j]:g}"
        raise BadInput(detail, where=f"line {lines[i]}, column '{features[j]}'")
    return matrix, lines


def _is_header(cells: Sequence[str], features: Sequence[str]) -> bool:
    # A line of feature names is a header even if all names are numbers, such as 0, 1 and 2.
    if {cell.strip() for cell in cells} == set(features):
        return True
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return True
    return False


def _column_order(names: Sequence[str], features: Sequence[str], where: str) -> list[int]:
    """Return the index of each feature in a header."""
    _reject_duplicates(names, where)
    if problem := name_mismatch(names, features):
        raise BadInput(problem, where=where)
    known = names_by_key(features)
    columns = [find_name(name, known) or name for name in names]
    _reject_duplicates(columns, where)
    return [columns.index(name) for name in features]


def _reject_duplicates(names: Sequence[str], where: str) -> None:
    if (name := first_duplicate(names)) is not None:
        detail = f"the column '{name[:MAX_SHOWN_CHARACTERS]}' appears twice"
        raise BadInput(detail, where=where, status=UNPARSEABLE)


def _parse_cell(cell: str, line: int, column: str) -> float:
    try:
        # Python's float() would also accept 1_000 and the digits of other scripts.
        if not cell.isascii() or "_" in cell:
            raise ValueError
        return float(cell)
    except ValueError:
        place = f"line {line}, column '{column}'"
        raise BadInput(f"expected a number, found '{shorten(cell.strip())}'", where=place) from None
