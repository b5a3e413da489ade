"""Console output and ratios for all benchmarks."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def new_console(width: int = 120) -> Console:
    """Return a console that prints text as it is, up to the given width in columns."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


def new_table(title: str, *headings: str) -> Table:
    """Return an empty table whose first column holds the name of each row."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio within each round, in which a change of the machine's speed cancels."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
