"""Tests of model.table.npz_file: arrays become columns; hostile or damaged files are errors."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import DataError
from model.table.columns import parse_numbers
from model.table.npz_file import read_npz
from tests.model.table.conftest import WriteFile


def npz(**arrays: Any) -> bytes:
    """Return the bytes of an NPZ file."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npy(values: Any) -> bytes:
    """Return the bytes of an NPY file."""
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def archive(content: bytes, name: str = "x.npy") -> bytes:
    """Return a zip file with two members: y.npy, and a member `name` with this content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr(name, content)
        members.writestr("y.npy", npy(X))
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", ">i2", "|u1", "|b1"])
def test_values(write_file: WriteFile, dtype: str) -> None:
    """Values are kept for every numeric dtype, byte order and memory order."""
    x = np.asfortranarray(np.arange(12).reshape(6, 2) % 2).astype(dtype)
    frame = read_npz(write_file("a.npz", npz(x=x, y=x[:, 0])))
    expected = {"x0": x[:, 0], "x1": x[:, 1], "y": x[:, 0]}
    assert list(expected) == frame.columns
    for name, values in expected.items():
        assert values.astype(float).tolist() == parse_numbers(frame[name]).tolist()


class Malicious:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


X = np.zeros((6, 2))
DAMAGED = "not an NPZ file, or a truncated one"
SHAPES = "expected x (rows, in_features) and y (rows,) or (rows, out_features), found x"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"not NPZ", DAMAGED),
        (npz(x=X, y=X)[:-1], DAMAGED),
        (npy(X), DAMAGED),
        (npz(x=X, y=X).replace(b"\0" * 8, b"\1" * 8, 1), DAMAGED),  # wrong checksum
        (archive(b"\x80\x04"), "EOF: reading magic string, expected 8 bytes got 2"),
        (archive(npy(X), "x.txt"), "expected arrays x and y, found 'y'"),
        (npz(x=X, z=X), "expected arrays x and y, found 'x', 'z'"),
        (
            npz(x=X, y=np.array([Malicious()] * 6, object)),
            "holds pickled objects, which can run code; save plain arrays",
        ),
        (npz(x=X, y=np.zeros(5)), f"{SHAPES} (6, 2) and y (5,)"),
        (npz(x=X[0], y=X[0]), f"{SHAPES} (2,) and y (2,)"),
        (
            npz(x=X.astype("M8[s]"), y=X),
            "expected numbers or text, found x of datetime64[s] and y of float64",
        ),
    ],
)
def test_bad_file(write_file: WriteFile, content: bytes, expected: str) -> None:
    """Each defect gives a one-line error, and no file runs code."""
    with pytest.raises(DataError) as caught:
        read_npz(write_file("a.npz", content))
    assert expected == str(caught.value)
    assert [Path("a.npz")] == list(Path().iterdir())
