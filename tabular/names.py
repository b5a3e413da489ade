"""Column names in messages."""

import difflib
from collections.abc import Iterable, Sequence


def quote_names(names: Sequence[str], most: int = 12) -> str:
    """Return names as a message lists them: 'a', 'b' and 3 more."""
    listed = ", ".join(f"'{name}'" for name in names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed or "nothing"


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known name, or an empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""
