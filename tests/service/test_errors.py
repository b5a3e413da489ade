"""service.errors: how messages describe a caller's values."""

import pytest

from service.errors import describe_value, first_duplicate, shorten


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ([1, 2], "a list"),
        ({"a": 1}, "an object"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("größe", '"größe"'),
        ("x" * 10**6, '"' + "x" * 39 + " ..."),
        (10**60, "1" + "0" * 39 + " ..."),
    ],
)
def test_value_is_described_in_a_few_characters(value: object, description: str) -> None:
    """Containers by their type, other values by at most 40 characters of their JSON."""
    assert description == describe_value(value)


def test_text_is_shortened() -> None:
    """80 characters are kept; 81 are not."""
    assert ("x" * 80, "x" * 80 + " ...") == (shorten("x" * 80), shorten("x" * 81))


@pytest.mark.parametrize(("names", "duplicate"), [("abcb", "b"), ("abba", "a"), ("abc", None)])
def test_first_duplicate(names: str, duplicate: str | None) -> None:
    """The name whose first occurrence comes first is returned."""
    assert duplicate == first_duplicate(names)
