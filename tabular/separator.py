"""The separator of a CSV file."""

import csv
import io
from itertools import islice

SEPARATORS = ",;\t|"
MAX_SAMPLE_ROWS = 20
"""Maximum number of rows compared to find the separator."""


def guess_separator(text: str, width: int | None = None) -> str:
    """Return the separator that cuts the first line of a CSV into `width` cells, or into the most.

    Separators that give most of the first rows as many cells as the first line come first. A wrong
    separator that splits inside quotes can join lines, so more rows decide between equal widths.
    Of equally good separators the first in SEPARATORS wins.

    Args:
        text: the first line of the CSV, or more of it.
        width: the expected number of columns, if known.
    """

    def rank(separator: str) -> tuple[bool, bool, int, int]:
        try:
            records = islice(csv.reader(io.StringIO(text), delimiter=separator), MAX_SAMPLE_ROWS)
            widths = [len(row) for row in records if row] or [0]
        except csv.Error:  # an uncut line may exceed the csv module's limit on a cell
            return False, False, 0, 0
        consistent = widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths)
        return widths[0] == width, consistent, widths[0], len(widths)

    return max(SEPARATORS, key=rank)
