"""A named data set or a file becomes a Table, its task inferred from the type of the target."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from model.config import BUNDLED_DATASETS
from model.errors import DataError
from model.table.bundled import load_bundled
from model.table.columns import parse_numbers
from model.table.dataset import ClassValue, FloatArray, IntArray, Kind, Table, Task
from model.table.files import count_rows, read_columns, read_frame, require_columns
from model.table.target import encode_classes, infer_task
from tabular.names import near_miss, quote_names

MIN_ROWS = 10
MAX_TARGET_MAGNITUDE = 1e18
"""A squared error of more leaves float32."""
MIN_ROWS_PER_CLASS = 7  # on average: each of train, validation and test holds every class


def load_table(
    source: str,
    *,
    targets: Sequence[str] = (),
    drop: Sequence[str] = (),
    task: Task | None = None,
    name: str | None = None,
) -> Table:
    """Load a bundled data set by name, or a CSV, Parquet or NPZ file by path.

    Args:
        source: one of BUNDLED, or a path.
        targets: the columns to predict; bundled sets and NPZ files name their own.
        drop: columns to leave out.
        task: overrides what the target's type suggests.
        name: overrides the name of the run, which is the data set's or the file's stem.

    Raises:
        DataError: anything that stands between this data and a fit, in one line.
    """
    frame, own_targets = load_bundled(source) if source in BUNDLED_DATASETS else _read_file(source)
    schema = frame.collect_schema()
    columns = schema.names()
    targets = tuple(dict.fromkeys(targets)) or own_targets
    if not targets:
        raise DataError(
            f"{source}: say which column to predict (--target); it has {quote_names(columns)}"
        )
    require_columns(targets, columns, "target column", source)
    require_columns(drop, columns, "column to drop", source)
    if both := [target for target in targets if target in drop]:
        raise DataError(f"{source}: column '{both[0]}' is both target and dropped")
    features = tuple(column for column in columns if column not in {*targets, *drop, *own_targets})
    if not features:
        raise DataError(f"{source}: no feature columns are left beside the target")

    rows = count_rows(frame, source)
    if rows < MIN_ROWS:
        raise DataError(f"{source}: expected at least {MIN_ROWS} rows, found {rows}")
    predicted = list(read_columns(frame, targets, source))
    chosen, note = infer_task(predicted, task)
    x = np.empty((rows, len(features)), np.float32)
    for index, column in enumerate(read_columns(frame, features, source)):
        x[:, index] = parse_numbers(column, source)
    y: FloatArray | IntArray
    classes: tuple[ClassValue, ...] = ()
    if chosen == "classification":
        if len(targets) > 1:
            raise DataError(f"{source}: classification takes one target, found {len(targets)}")
        classes, y = encode_classes(predicted[0], source)
    else:
        y = np.stack([parse_numbers(column, source) for column in predicted], axis=1)
        for target, low, high in zip(targets, y.min(axis=0), y.max(axis=0), strict=True):
            if max(-low, high) > MAX_TARGET_MAGNITUDE:
                raise DataError(
                    f"{source}: target '{target}': expected values within {MAX_TARGET_MAGNITUDE:g}, found {high:g}"
                )
            if low == high:
                raise DataError(
                    f"{source}: target '{target}' is {low:g} in every row: nothing to learn"
                )
    if rows < (needed := MIN_ROWS_PER_CLASS * len(classes)):
        raise DataError(
            f"{source}: expected at least {needed} rows for {len(classes)} classes, found {rows}"
        )
    return Table(
        name=run_name(name or (source if source in BUNDLED_DATASETS else Path(source).stem)),
        task=chosen,
        features=features,
        kinds=tuple(_column_kind(schema[feature]) for feature in features),
        x=x,
        targets=targets,
        y=y,
        classes=classes,
        notes=(note,),
    )


def run_name(text: str) -> str:
    """Reduce a data set's name or a file's stem to [a-z0-9_-]; accents fall away."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-") or "data"


def _read_file(source: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    path = Path(source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUNDLED_DATASETS)
        raise DataError(
            f"{source}: neither a file nor one of {names}{near_miss(source, BUNDLED_DATASETS)}"
        )
    frame = read_frame(path)
    if path.suffix.lower() != ".npz":
        return frame, ()
    return frame, tuple(
        column for column in frame.collect_schema().names() if column.startswith("y")
    )


def _column_kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Boolean:
        return "boolean"
    return "integer" if dtype.is_integer() else "float"
