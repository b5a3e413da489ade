"""Column names in messages."""

import difflib
from collections.abc import Iterable, Sequence


def quote_names(names: Sequence[str], limit: int = 12) -> str:
    """Return a list of names for a message, such as: 'a', 'b' and 3 more."""
    listed = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{listed} and {len(names) - limit} more" if len(names) > limit else listed or "nothing"


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known name, or an empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""
