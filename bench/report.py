"""Console output and ratios for all benchmarks."""

import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table


def new_console(width: int = 120) -> Console:
    """Return a console that prints plain text without markup; `width` is in columns."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


def new_table(title: str, *headings: str) -> Table:
    """Return an empty table whose first column holds the name of each row."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio within each round, which cancels changes of machine speed between rounds."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def print_medians(
    console: Console, title: str, rounds: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, dict[str, float]]:
    """Print a table with the median of each figure over the rounds; return the medians by row."""
    medians = {
        row: {
            figure: statistics.median(figures[figure] for figures in series) for figure in series[0]
        }
        for row, series in rounds.items()
    }
    headings = next(iter(medians.values()))
    table = new_table(title, *(heading.replace("_", " ") for heading in headings))
    for row, figures in medians.items():
        cells = (f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in figures.values())
        table.add_row(row, *cells)
    console.print(table, "")
    return medians
