"""The separator of a CSV file."""

import csv

SEPARATORS = ",;\t|"


def guess_separator(header: str, width: int | None = None) -> str:
    """Return the separator that cuts the first line of a CSV into `width` cells, or into the most.

    Of equally good separators the first in SEPARATORS wins.
    """

    def cell_count(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator), []))
        except csv.Error:  # an uncut line may exceed the csv module's limit on a cell
            return 0

    counts = {separator: cell_count(separator) for separator in SEPARATORS}
    matching = (separator for separator, count in counts.items() if count == width)
    return next(matching, max(counts, key=counts.__getitem__))
