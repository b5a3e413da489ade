"""A strict JSON parser, and a decoder from JSON to annotated dataclasses.

Lenient parsers accept duplicate keys, NaN and unbounded nesting, but interpret them differently.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from service.errors import first_duplicate, shorten

MAX_DEPTH = 16
"""Maximum number of nested levels of lists and objects; artifacts need 6."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OBJECTS_TO_LISTS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(content: bytes) -> Any:
    """Parse UTF-8 JSON with unique keys, finite numbers, 64-bit integers and bounded nesting.

    Raises:
        ValueError: the content is not such JSON.
    """
    brackets = _STRING.sub(b"", content).translate(_OBJECTS_TO_LISTS, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")  # Each pass removes the innermost level.
    if brackets:
        problem = "found more, or brackets that do not match"
        raise ValueError(f"expected at most {MAX_DEPTH} nested levels, {problem}")
    text = content.decode()
    document = json.loads(
        text,
        object_pairs_hook=_object_of_unique_keys,
        parse_constant=_reject_constant,
        parse_float=_parse_float,
        parse_int=_parse_integer,
    )
    if "\\u" in text:
        # Encoding fails for an escaped lone surrogate, which is not a character.
        json.dumps(document, ensure_ascii=False).encode()
    return document


def decode(value: Any, annotation: Any, where: str) -> Any:
    """Convert parsed JSON to the type of an annotation.

    An object must have exactly the fields of its dataclass, and number types must match: 1 is
    accepted neither as 1.0 nor as true.

    Args:
        value: result of parse().
        annotation: dataclass, tuple[X, ...], Mapping[str, X], Literal, union of plain types, plain
            type, or Any.
        where: location of the value, which prefixes error messages, such as "features: [0]: ".

    Raises:
        ValueError: the value does not match the annotation; the message gives the location.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        _require(isinstance(value, dict), where, "an object", value)
        types = {field.name: field.type for field in dataclasses.fields(annotation)}
        for name in (*types, *value):
            if name not in value:
                raise ValueError(f"{where}{name!r} is missing")
            if name not in types:
                raise ValueError(f"{where}{name!r} is not part of the format")
        fields = {name: decode(value[name], types[name], f"{where}{name}: ") for name in types}
        return annotation(**fields)  # type: ignore[operator] # a class, never an instance
    if origin is tuple:
        _require(isinstance(value, list), where, "a list", value)
        return tuple(decode(v, arguments[0], f"{where}[{i}]: ") for i, v in enumerate(value))
    if origin is Mapping:
        _require(isinstance(value, dict), where, "an object", value)
        return {key: decode(v, arguments[1], f"{where}{key}: ") for key, v in value.items()}
    if origin is Literal:
        _require(value in arguments, where, f"one of {', '.join(arguments)}", value)
    elif annotation is not Any:
        kinds = arguments if origin is UnionType else (annotation,)
        _require(type(value) in kinds, where, " or ".join(kind.__name__ for kind in kinds), value)
    return value


def _require(condition: bool, where: str, expected: str, value: object) -> None:
    if not condition:
        text = shorten(json.dumps(value, ensure_ascii=False), 60)
        raise ValueError(f"{where}expected {expected}, found {text}")


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (key := first_duplicate(key for key, _ in pairs)) is not None:
        raise ValueError(f"duplicate key {key!r}")
    return dict(pairs)


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not valid JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _parse_integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:20]} ... is too large for an integer")
    return int(text)
