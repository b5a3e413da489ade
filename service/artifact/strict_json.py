"""JSON read strictly, and held to the annotations of the dataclass that describes it. The standard library alone.

A lenient reader takes the last of two equal keys, NaN, or a thousand nested lists; two lenient readers differ.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin

MAX_DEPTH = 16
"""Levels of lists and objects in one another; the format needs 6."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OBJECTS_TO_LISTS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(content: bytes) -> Any:
    """Parse UTF-8 JSON of unique keys, finite numbers, 64-bit integers, whole characters and bounded depth.

    Raises:
        ValueError: it is not that; the message says what was found.
    """
    nested = _STRING.sub(b"", content).translate(_OBJECTS_TO_LISTS, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        nested = nested.replace(b"[]", b"")  # the innermost level
    if nested:
        raise ValueError(
            f"expected at most {MAX_DEPTH} nested levels, found more, or brackets that do not match"
        )
    text = content.decode()
    document = json.loads(
        text,
        object_pairs_hook=_unique,
        parse_constant=_reject_constant,
        parse_float=_finite,
        parse_int=_sixty_four_bit,
    )
    if "\\u" in text:
        json.dumps(
            document, ensure_ascii=False
        ).encode()  # half of a surrogate pair is no character
    return document


def decode(value: Any, expected: Any, where: str) -> Any:
    """Return what parse gave as the dataclass, or as the annotation of a field, that describes it.

    Understood are dataclasses, tuple[X, ...], Mapping[str, X], Literal, unions of plain types, plain types and Any;
    an object has exactly the fields of its dataclass, and 1 is neither 1.0 nor true.

    Raises:
        ValueError: it is not so; the message names the place.
    """
    origin, arguments = get_origin(expected), get_args(expected)
    if dataclasses.is_dataclass(expected):
        _require(isinstance(value, dict), where, "an object", value)
        fields = {field.name: field.type for field in dataclasses.fields(expected)}
        for name in (*fields, *value):
            if name not in value or name not in fields:
                what = "is missing" if name in fields else "is no part of the format"
                raise ValueError(f"{where}{name!r} {what}")
        made = {
            name: decode(value[name], kind, f"{where}{name}: ") for name, kind in fields.items()
        }
        return expected(**made)  # type: ignore[operator] # a class, never an instance
    if origin is tuple:
        _require(isinstance(value, list), where, "a list", value)
        return tuple(
            decode(element, arguments[0], f"{where}[{i}]: ") for i, element in enumerate(value)
        )
    if origin is Mapping:
        _require(isinstance(value, dict), where, "an object", value)
        return {
            name: decode(element, arguments[1], f"{where}{name}: ")
            for name, element in value.items()
        }
    if origin is Literal:
        _require(value in arguments, where, f"one of {', '.join(arguments)}", value)
    elif expected is not Any:
        kinds = arguments if origin is UnionType else (expected,)
        _require(type(value) in kinds, where, " or ".join(kind.__name__ for kind in kinds), value)
    return value


def _require(holds: bool, where: str, expected: str, found: object) -> None:
    if not holds:
        text = json.dumps(found, ensure_ascii=False)
        raise ValueError(
            f"{where}expected {expected}, found {text if len(text) <= 60 else text[:60] + ' ...'}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {name!r} stands twice")
        found[name] = value
    return found


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _sixty_four_bit(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:20]} ... is too large for an integer")
    return int(text)
