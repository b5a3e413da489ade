"""TODO: model.table.npz_file."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.errors import DataError, first_line
from tabular.names import quote_names


def read_npz(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = [
                    name.removesuffix(".npy")
                    for name in archive.namelist()
                    if name.endswith(".npy")
                ]
                arrays = [_read_array(archive, name) for name in ("x", "y") if name in found]
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise DataError(
                    f"{path}: holds pickled objects, which can run code; save plain arrays"
                ) from None
            raise DataError(f"{path}: {first_line(error)}") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
        ):  # as zipfile says that bytes are wrong
            raise DataError(f"{path}: not an NPZ file, or a truncated one") from None
    if len(arrays) < 2:
        raise DataError(f"{path}: expected arrays x and y, found {quote_names(found)}")
    x, y = arrays
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{path}: expected x (rows, in_features) and y (rows,) or (rows, out_features), "
            f"found x {x.shape} and y {y.shape}"
        )
    targets = {"y": y} if y.ndim == 1 else {f"y{i}": column for i, column in enumerate(y.T)}
    try:
        return pl.DataFrame({f"x{i}": column for i, column in enumerate(x.T)} | targets)
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        raise DataError(
            f"{path}: expected numbers or text, found x of {x.dtype} and y of {y.dtype}"
        ) from None


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found
