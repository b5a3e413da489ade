"""TODO: tabular.separator."""

import csv


def guess_separator(first: str, width: int | None = None) -> str:
    """Return what separates the cells of a CSV's first line: the separator that gives `width` cells, or the most."""

    def cells(mark: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=mark), []))
        except csv.Error:  # uncut, a long line is longer than a cell may be
            return 0

    counts = {mark: cells(mark) for mark in ",;\t|"}
    return next(
        (mark for mark, count in counts.items() if count == width),
        max(counts, key=counts.__getitem__),
    )
