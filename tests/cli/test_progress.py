"""The progress bar."""

import io

import pytest
from rich.console import Console

from cli.progress import progress_bar


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals(terminal: bool) -> None:
    """A terminal shows the count and the note; a log gets no output."""
    output = io.StringIO()
    with progress_bar(Console(file=output, force_terminal=terminal, width=80)) as bar:
        bar.update(bar.add_task("fit", total=3, note="note 7"), advance=1)
    text = output.getvalue()
    assert (terminal, terminal) == ("1/3" in text and "note 7" in text, bool(text))
