"""tabular.separator: the separator of a CSV's first line."""

import pytest

from tabular.separator import guess_separator


@pytest.mark.parametrize(
    ("header", "width", "separator"),
    [
        ("a,b,c", None, ","),
        ("a;b,c;d", None, ";"),
        ("a\tb\tc", None, "\t"),
        ("a|b|c", None, "|"),
        ('"a;b;c";d,e,f', None, ","),
        ("1,5;2,5;3,5", 3, ";"),
        ("a;b,c,d", 2, ";"),
        ("a", None, ","),
        ("", None, ","),
        ("a;" + "x," * 60_000, 2, ";"),
        ("x" * 200_000 + ";b", None, ","),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_guess(header: str, width: int | None, separator: str) -> None:
    """A separator that yields `width` cells is preferred, then the one that yields the most."""
    assert separator == guess_separator(header, width)
