"""JSON as text, written in more ways than a library has: every form of a number, keys that stand twice, odd spaces."""

import json
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

GAPS = ("", "", "", " ", "\n", "\t ", "\r\n  ")


class Token(str):
    """JSON text that is written as it stands."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """An object whose keys may stand twice, in an order of its own."""


def number(random: Random, value: float) -> Token:
    """Write a finite number in one of the ways in which its text reads back as the same float64."""
    forms = [repr(value), f"{value:.17g}", f"{value:.18e}", f"{value:.16E}"]
    if value == int(value):
        forms += [f"{value:.0f}"] * 2
    if 1e-9 < abs(value) < 1e15:
        forms.append(f"{Decimal(value):f}")
    return Token(random.choice(forms))


def numbers(random: Random, rows: Sequence[Sequence[float]]) -> list[list[Token]]:
    """Write rows of numbers; most requests are written by one library, in one form."""
    if random.random() < 0.6:
        return [[Token(repr(value)) for value in row] for row in rows]
    return [[number(random, value) for value in row] for row in rows]


def text(random: Random, value: Any) -> str:
    """Write a value, with spaces where JSON has them."""
    if random.random() < 0.5:
        return compact(value, "")
    gap = random.choice(GAPS)
    return gap + compact(value, gap) + gap


def compact(value: Any, gap: str) -> str:
    """Write a value with the same space everywhere."""
    match value:
        case Token():
            return value
        case Members() | dict():
            pairs = value.items() if isinstance(value, dict) else value
            inside = f"{gap},{gap}".join(
                f"{compact(name, '')}{gap}:{gap}{compact(held, gap)}" for name, held in pairs
            )
            return f"{{{gap}{inside}{gap}}}"
        case list() | tuple():
            return f"[{gap}{f'{gap},{gap}'.join(compact(held, gap) for held in value)}{gap}]"
    return json.dumps(value, ensure_ascii=len(gap) > 1)
