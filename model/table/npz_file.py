"""NPZ files: the arrays x and y as a data frame, without ever unpickling an object."""

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
    """Read x, (rows, in_features), and y, (rows,) or (rows, out_features), as named columns.

    Raises:
        DataError: the file is malformed or holds pickled objects, or an array is not as expected.
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
        raise DataError(
            f"expected numbers or text, found x of {x.dtype} and y of {y.dtype}"
        ) from None


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
                if "x.npy" in members and "y.npy" in members:
                    return _read_array(archive, "x.npy"), _read_array(archive, "y.npy")
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise DataError(
                    "holds pickled objects, which can run code; save plain arrays"
                ) from None
            raise DataError(" ".join(str(error).split())) from None
        # These are the errors that zipfile raises for damaged content.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
            raise DataError("not an NPZ file, or a truncated one") from None
    names = quote_names([name.removesuffix(".npy") for name in members])
    raise DataError(f"expected arrays x and y, found {names}")


def _read_array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    with archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
