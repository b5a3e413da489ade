"""Detection of the separator of a CSV file."""

import csv
import io
from itertools import islice

SEPARATORS = ",;\t|"
MAX_SAMPLE_ROWS = 20
"""Maximum number of rows that are compared to find the separator."""


def guess_separator(text: str, width: int | None = None) -> str:
    """Return the separator of a CSV, chosen from the first line and, if present, more rows.

    Separators are ranked by whether they split the first line into `width` cells, whether they
    split most rows into as many cells as the first line, the number of cells, and the number of
    rows (a wrong separator inside quotes can join lines). The first in SEPARATORS wins a tie.

    Args:
        text: the first line of the CSV, or more of it.
        width: the expected number of columns, if known.
    """

    def rank(separator: str) -> tuple[bool, bool, int, int]:
        try:
            records = islice(csv.reader(io.StringIO(text), delimiter=separator), MAX_SAMPLE_ROWS)
            widths = [len(row) for row in records if row] or [0]
        except csv.Error:  # an unsplit line may exceed the size limit of a cell
            return False, False, 0, 0
        consistent = widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths)
        return widths[0] == width, consistent, widths[0], len(widths)

    return max(SEPARATORS, key=rank)
