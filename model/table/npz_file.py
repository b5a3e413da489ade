"""Read the arrays x and y of an NPZ file, without unpickling objects."""

import functools
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.errors import DataError
from tabular.names import quote_names


def read_npz(path: Path) -> pl.DataFrame:
    """Read x, (rows, in_features), and y, (rows,) or (rows, out_features), as a frame.

    Raises:
        DataError: the file is malformed or holds pickled objects, or x or y has a wrong shape.
    """
    x, y = _read_arrays(path)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"expected x (rows, in_features) and y (rows,) or (rows, out_features), "
            f"found x {x.shape} and y {y.shape}"
        )
    targets = {"y": y} if y.ndim == 1 else {f"y{i}": column for i, column in enumerate(y.T)}
    try:
        return pl.DataFrame({f"x{i}": column for i, column in enumerate(x.T)} | targets)
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        types = f"x of {x.dtype} and y of {y.dtype}"
        raise DataError(f"expected numbers or text, found {types}") from None


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
                if "x.npy" in members and "y.npy" in members:
                    read = functools.partial(np.lib.format.read_array, allow_pickle=False)
                    with archive.open("x.npy") as x, archive.open("y.npy") as y:
                        return read(x), read(y)
        except ValueError as error:
            if "allow_pickle" in str(error):
                error = ValueError("holds pickled objects, which can run code; save plain arrays")
            raise DataError(" ".join(str(error).split())) from None
        # zipfile raises all of these for damaged content.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
            raise DataError("not an NPZ file, or a truncated one") from None
    names = quote_names([name.removesuffix(".npy") for name in members])
    raise DataError(f"expected arrays x and y, found {names}")
