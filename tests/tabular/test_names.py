"""tabular.names: lists of names, and suggestions for a misspelt one."""

import pytest

from tabular.names import near_miss, quote_names


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "nothing"), (2, "'a', 'b'"), (3, "'a', 'b' and 1 more")]
)
def test_quote_names(count: int, expected: str) -> None:
    """A long list ends with the number of names left out."""
    assert expected == quote_names("abc"[:count], limit=2)


@pytest.mark.parametrize(
    ("name", "expected"), [("WIDHT", " (did you mean 'Width'?)"), ("unlike", "")]
)
def test_near_miss(name: str, expected: str) -> None:
    """The closest name is suggested, regardless of case."""
    assert expected == near_miss(name, ["Width", "height"])
