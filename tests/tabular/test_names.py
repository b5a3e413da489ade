"""tabular.names: lists of names, and suggestions for a misspelt one."""

import pytest

from tabular.names import find_name, name_key, names_by_key, near_miss, quote_names

COMPOSED, COMBINING = "gr\xf6\xdfe", "gro\u0308\xdfe"
LONG = "a" + "\u0315\u0327" * 600


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        (COMBINING, [COMPOSED], COMPOSED),
        (COMPOSED, [COMBINING], COMBINING),
        (COMBINING, [COMPOSED, COMBINING], COMBINING),
        (COMPOSED, [COMPOSED, COMBINING], COMPOSED),
        ("\ufb01", ["fi"], None),
        ("A", ["a"], None),
    ],
)
def test_find_name(name: str, known: list[str], expected: str | None) -> None:
    """The two spellings of an accent are one name; ligatures and case make another name."""
    assert expected == find_name(name, names_by_key(known))


def test_long_name_is_compared_as_it_is() -> None:
    """Long names are not normalized, because that would take quadratic time."""
    assert (LONG, "\xe9" * 9) == (name_key(LONG), name_key("e\u0301" * 9))


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
