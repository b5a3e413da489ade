"""Column names for messages."""

import difflib
from collections.abc import Iterable, Sequence


def quote_names(names: Sequence[str], limit: int = 12) -> str:
    """Return a list of names for a message, such as: 'a', 'b' and 3 more."""
    text = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text or "nothing"


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known name, or an empty string."""
    names = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), names, n=1)
    return f" (did you mean '{names[matches[0]]}'?)" if matches else ""
