"""Random but valid JSON text: number formats, duplicate keys and white space."""

import json
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

GAPS = ("", "", "", " ", "\n", "\t ", "\r\n  ")


class Raw(str):
    """JSON text to write unchanged."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """The members of an object in a chosen order; a key may appear twice."""


def number(random: Random, value: float) -> Raw:
    """Write a finite number in a random format that parses to the same float64."""
    texts = [repr(value), f"{value:.17g}", f"{value:.18e}", f"{value:.16E}"]
    if value == int(value):
        texts += [f"{value:.0f}"] * 2
    if 1e-9 < abs(value) < 1e15:
        texts.append(f"{Decimal(value):f}")
    return Raw(random.choice(texts))


def numbers(random: Random, rows: Sequence[Sequence[float]]) -> list[list[Raw]]:
    """Write rows of numbers, usually all in Python's format, otherwise in random formats."""
    if random.random() < 0.6:
        return [[Raw(repr(value)) for value in row] for row in rows]
    return [[number(random, value) for value in row] for row in rows]


def document(random: Random, value: Any) -> str:
    """Write a value with random white space wherever JSON allows it."""
    gap = "" if random.random() < 0.5 else random.choice(GAPS)
    return gap + text(value, gap) + gap


def text(value: Any, gap: str) -> str:
    """Write a value with the same white space around every token."""
    match value:
        case Raw():
            return value
        case Members() | dict():
            pairs = value.items() if isinstance(value, dict) else value
            inside = f"{gap},{gap}".join(
                f"{text(key, '')}{gap}:{gap}{text(item, gap)}" for key, item in pairs
            )
            return f"{{{gap}{inside}{gap}}}"
        case list() | tuple():
            return f"[{gap}{f'{gap},{gap}'.join(text(item, gap) for item in value)}{gap}]"
    return json.dumps(value, ensure_ascii=len(gap) > 1)
