"""Parse weights.safetensors.

A file in this format (https://huggingface.co/docs/safetensors) consists of the length of its header
as a little-endian 64-bit integer, the header as JSON, and the bytes of the tensors.
"""

import json
import math
from typing import Any, TypeGuard

from service.artifact import strict_json
from service.artifact.manifest import WEIGHTS, ArtifactError
from service.artifact.onnx_scan import Tensors

MAX_HEADER_BYTES = 2**20
"""Maximum size of the header in bytes; eight tensors need less than 1,000 bytes."""


def read_tensors(content: bytes) -> Tensors:
    """Return the float32 tensors; raise ArtifactError unless the file is valid and has no gaps."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        sizes = f"a header of {length} bytes in a file of {len(content)} bytes"
        raise ArtifactError(f"{WEIGHTS}: declares {sizes}")
    try:
        header = strict_json.parse(content[8 : 8 + length])
        if not isinstance(header, dict):
            raise ValueError("expected an object as the header")
        tensors = _slice_tensors(header, memoryview(content)[8 + length :])
        compact = json.dumps(header, separators=(",", ":")).encode()
        if content[8 : 8 + length] != compact + b" " * (-len(compact) % 8):
            raise ValueError("expected compact JSON, padded with spaces to 8 bytes, as the header")
        return tensors
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{WEIGHTS}: {error}") from None


def _slice_tensors(header: dict[str, Any], data: memoryview) -> Tensors:
    tensors: Tensors = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        start, stop = _offsets(name, entry)
        shape, members = entry.get("shape"), {"dtype", "shape", "data_offsets"}
        if set(entry) != members or entry["dtype"] != "F32" or not _are_sizes(shape):
            expected = "dtype F32, shape and data_offsets"
            raise ValueError(f"{name!r}: expected {expected}, found {str(entry)[:80]}")
        if start != end or stop > len(data) or stop - start != 4 * math.prod(shape):
            expected = f"the data of shape {shape} to start at byte {end}"
            actual = f"bytes {start} to {stop} of {len(data)}"
            raise ValueError(f"{name!r}: expected {expected}, found {actual}")
        tensors[name], end = (tuple(shape), data[start:stop]), stop
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the last tensor")
    return tensors


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r}: expected a tensor with two data_offsets")
    return offsets[0], offsets[1]


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
