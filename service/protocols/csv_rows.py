"""TODO: service.protocols.csv_rows."""

import csv
import io
from collections.abc import Sequence

from service.errors import MAX_SHOWN_CHARACTERS, UNPARSEABLE, BadInput, first_duplicate, shorten
from service.protocols.rows import first_non_finite, name_mismatch, require_row_count, to_float32
from service.runtime.session import Rows
from tabular.separator import guess_separator


def rows_from_csv(body: bytes, features: Sequence[str], most_rows: int) -> Rows:
    """Parse CSV; the first line is a header iff it holds a non-number, and may then reorder the columns.

    Raises:
        BadInput: 400 when it is not text, 422 with line and column when a cell does not fit; 413 for too many rows.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 at byte {error.start}", status=UNPARSEABLE) from None
    mark = guess_separator((text.lstrip("\r\n").splitlines() or [""])[0], len(features))
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
                order = _column_order(names, features)
                continue
            if len(cells) != len(features):
                raise BadInput(
                    f"expected {len(features)} values, found {len(cells)}",
                    where=f"line {reader.line_num}",
                )
            require_row_count(len(rows) + 1, most_rows, f"line {reader.line_num}")
            rows.append([_parse_cell(cells[i], reader.line_num, names[i]) for i in order])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise BadInput(
            f"not CSV: {error}", where=f"line {reader.line_num}", status=UNPARSEABLE
        ) from None
    if not rows:
        raise BadInput("no rows in the body", status=UNPARSEABLE)
    matrix = to_float32(rows)
    if (place := first_non_finite(matrix)) is not None:
        i, j = place
        detail = f"expected a number within float32, found {rows[i][j]:g}"
        raise BadInput(detail, where=f"line {lines[i]}, column '{features[j]}'")
    return matrix


def _is_header(cells: Sequence[str], features: Sequence[str]) -> bool:
    if {cell.strip() for cell in cells} == set(
        features
    ):  # the names themselves may be numbers: 0, 1, 2
        return True
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return True
    return False


def _column_order(names: Sequence[str], features: Sequence[str]) -> list[int]:
    """Return where in a header each feature stands."""
    if (name := first_duplicate(names)) is not None:
        raise BadInput(
            f"the column '{name[:MAX_SHOWN_CHARACTERS]}' stands twice",
            where="line 1",
            status=UNPARSEABLE,
        )
    if problem := name_mismatch(names, features):
        raise BadInput(problem, where="line 1")
    return [names.index(name) for name in features]


def _parse_cell(cell: str, line: int, column: str) -> float:
    try:
        if (
            not cell.isascii() or "_" in cell
        ):  # Python's float() takes 1_000 and digits of other scripts
            raise ValueError
        return float(cell)
    except ValueError:
        place = f"line {line}, column '{column}'"
        raise BadInput(f"expected a number, found '{shorten(cell.strip())}'", where=place) from None
