"""tabular.names: names in messages, and the closest of the known ones."""

import pytest

from tabular.names import near_miss, quote_names


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("pirce", ["size", "price"], " (did you mean 'price'?)"),
        ("PRICE €", ["size", "Price €"], " (did you mean 'Price €'?)"),
        ("colour", ["size", "price"], ""),
        ("x", [], ""),
    ],
)
def test_near_miss(name: str, known: list[str], expected: str) -> None:
    """Typing errors and the wrong case are recognised, and nothing further off is suggested."""
    assert expected == near_miss(name, known)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "nothing"),
        (["a"], "'a'"),
        (["a", "b c"], "'a', 'b c'"),
        (list("abcd"), "'a', 'b', 'c' and 1 more"),
    ],
)
def test_quote_names(names: list[str], expected: str) -> None:
    """Names are listed up to a limit, and the others counted."""
    assert expected == quote_names(names, 3)
