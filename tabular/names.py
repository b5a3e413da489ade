"""Column names: how two spellings are compared, and how names appear in messages."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

MAX_NORMALIZED_CHARACTERS = 1024
"""Length in characters above which a name is compared as it is.

unicodedata takes quadratic time for a long sequence of combining characters.
"""


def name_key(name: str) -> str:
    """Return the form in which names are compared: Unicode's NFC, since é has two spellings."""
    if len(name) > MAX_NORMALIZED_CHARACTERS:
        return name
    return unicodedata.normalize("NFC", name)


def names_by_key(names: Iterable[str]) -> dict[str, str]:
    """Return the names by their keys, and by themselves, for find_name."""
    names = list(names)
    return {name_key(name): name for name in names} | {name: name for name in names}


def find_name(name: str, known: Mapping[str, str]) -> str | None:
    """Return the spelling of a name in `known`, which names_by_key returned, or None."""
    return known.get(name) or known.get(name_key(name))


def quote_names(names: Sequence[str], limit: int = 12) -> str:
    """Return a list of names for a message, such as: 'a', 'b' and 3 more."""
    text = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text or "nothing"


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known name, or an empty string."""
    names = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), names, n=1)
    return f" (did you mean '{names[matches[0]]}'?)" if matches else ""
