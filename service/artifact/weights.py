"""The tensors of weights.safetensors, read from its bytes. The standard library alone.

The format (https://huggingface.co/docs/safetensors): the header's length as a little-endian 64-bit integer, the
header as JSON, then the tensors' bytes.
"""

import json
import math
from typing import Any, TypeGuard

from service.artifact import strict_json
from service.artifact.manifest import WEIGHTS, ArtifactError
from service.artifact.onnx_scan import Tensors

MAX_HEADER_BYTES = 2**20
"""Bytes of the header; eight tensors need under a thousand."""


def read_tensors(content: bytes) -> Tensors:
    """Return the tensors: float32, one after the other, with nothing between or behind them.

    Raises:
        ArtifactError: the header declares something else, or more than the file holds.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ArtifactError(
            f"{WEIGHTS}: declares a header of {length} bytes, and has {len(content)} in all"
        )
    try:
        header = strict_json.parse(content[8 : 8 + length])
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        found = _tensors(header, memoryview(content)[8 + length :])
        compact = json.dumps(header, separators=(",", ":")).encode()
        if content[8 : 8 + length] != compact + b" " * (-len(compact) % 8):
            raise ValueError(
                "the header is not written as safetensors writes it: no spaces but up to seven behind it"
            )
        return found
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{WEIGHTS}: {error}") from None


def _tensors(header: dict[str, Any], data: memoryview) -> Tensors:
    found: Tensors = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        begin, stop = _offsets(name, entry)
        shape = entry.get("shape")
        if (
            set(entry) != {"dtype", "shape", "data_offsets"}
            or entry["dtype"] != "F32"
            or not _sizes(shape)
        ):
            raise ValueError(
                f"{name!r}: expected an F32 tensor, its shape and its offsets, found {str(entry)[:80]}"
            )
        if begin != end or stop > len(data) or stop - begin != 4 * math.prod(shape):
            raise ValueError(
                f"{name!r}: shape {shape} at bytes {begin} to {stop} of {len(data)}, expected from {end}"
            )
        found[name], end = (tuple(shape), data[begin:stop]), stop
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the last tensor")
    return found


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not _sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r}: no tensor")
    return offsets[0], offsets[1]


def _sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
