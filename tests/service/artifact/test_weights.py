"""Tests of service.artifact.weights: only canonical safetensors files are accepted."""

import json
import re
from typing import Any

import pytest

from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.artifact.weights import read_tensors
from tests.stored import FLOWERS, HOUSES, StoredArtifact

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def encode(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    """Return a safetensors file; `length` replaces the true length of the header."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("stored", [FLOWERS, HOUSES])
def test_tensors_are_those_of_safetensors(stored: StoredArtifact) -> None:
    """The safetensors library reads the same names, shapes and bits from the file."""
    numpy = pytest.importorskip("safetensors.numpy")
    content = (stored.artifact / manifest.WEIGHTS).read_bytes()
    assert {
        name: (array.shape, array.tobytes()) for name, array in numpy.load(content).items()
    } == {name: (shape, data.tobytes()) for name, (shape, data) in read_tensors(content).items()}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "declares a header of 0 bytes in a file of 0 bytes"),
        (encode({}, length=2**63), "declares a header of 9223372036854775808 bytes"),
        (encode([]), "expected an object as the header"),
        (encode({"x": ENTRY | {"shape": [2**60]}}), "shape [1152921504606846976] to start at"),
        (encode({"x": ENTRY | {"data_offsets": [0, 2**62]}}), f"bytes 0 to {2**62} of 8"),
        (encode({"x": ENTRY, "y": ENTRY}, bytes(16)), "to start at byte 8, found bytes 0 to 8"),
        (encode({"x": ENTRY | {"dtype": "F16"}}), "'x': expected dtype F32, shape and data_offs"),
        (encode({"x": ENTRY | {"shape": [-2]}}), "'x': expected dtype F32, shape and data_offs"),
        (encode({"x": ENTRY | {"data_offsets": [0]}}), "'x': expected a tensor with two data_off"),
        (encode({"x": ENTRY, "__metadata__": {}}), "'__metadata__': expected a tensor"),
        (encode({"x": ENTRY}, bytes(9)), "1 bytes follow the last tensor"),
        (b"\x08" + bytes(7) + b"{ }     ", "expected compact JSON, padded with spaces to 8 bytes"),
    ],
)
def test_other_files_are_rejected(content: bytes, problem: str) -> None:
    """Wrong sizes, overlaps, gaps, other dtypes, metadata and other encodings are rejected."""
    with pytest.raises(ArtifactError, match=rf"^weights\.safetensors: .*{re.escape(problem)}"):
        read_tensors(content)
