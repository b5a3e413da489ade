"""A bundled data set or a file becomes a Table."""

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
from model.table.dataset import Kind, Table, Task
from model.table.files import count_rows, read_columns, read_frame, require_columns
from model.table.target import encode_target, infer_task
from tabular.names import near_miss, quote_names

MIN_ROWS = 10
"""Minimum number of rows in a table."""
MIN_ROWS_PER_CLASS = 7
"""Minimum number of rows per class on average, to have every class in every part of the split."""


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
        source: a name in BUNDLED_DATASETS, or a path.
        targets: the columns to predict; by default those of the bundled set or the NPZ file.
        drop: the columns to leave out.
        task: the task, instead of the one that the target's type suggests.
        name: the name of the run, instead of the data set's name or the file's stem.

    Raises:
        DataError: the file, its columns or its values cannot be used.
    """
    frame, own_targets = load_bundled(source) if source in BUNDLED_DATASETS else _read_file(source)
    schema = frame.collect_schema()
    targets = tuple(dict.fromkeys(targets)) or own_targets
    features = _choose_features(schema.names(), targets, own_targets, drop, source)
    rows = count_rows(frame, source)
    if rows < MIN_ROWS:
        raise DataError(f"{source}: expected at least {MIN_ROWS} rows, found {rows}")
    target_columns = list(read_columns(frame, targets, source))
    task, note = infer_task(target_columns, task)
    x = np.empty((rows, len(features)), np.float32)
    for index, column in enumerate(read_columns(frame, features, source)):
        x[:, index] = parse_numbers(column, source)
    classes, y = encode_target(target_columns, task, source)
    if rows < (needed := MIN_ROWS_PER_CLASS * len(classes)):
        raise DataError(
            f"{source}: expected at least {needed} rows for {len(classes)} classes, found {rows}"
        )
    return Table(
        name=run_name(name or (source if source in BUNDLED_DATASETS else Path(source).stem)),
        task=task,
        features=features,
        kinds=tuple(_column_kind(schema[feature]) for feature in features),
        x=x,
        targets=targets,
        y=y,
        classes=classes,
        notes=(note,),
    )


def run_name(text: str) -> str:
    """Return a name of [a-z0-9_-] for a data set's name or a file's stem, without its accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-") or "data"


def _choose_features(
    columns: Sequence[str],
    targets: Sequence[str],
    own_targets: Sequence[str],
    drop: Sequence[str],
    source: str,
) -> tuple[str, ...]:
    """Return the columns that are neither targets nor dropped.

    Raises:
        DataError: there is no target or no feature, or a column does not exist.
    """
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
        raise DataError(f"{source}: no columns are left for the features")
    return features


def _read_file(source: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return the frame of a file, and the names of its targets if it is an NPZ file."""
    path = Path(source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUNDLED_DATASETS)
        raise DataError(
            f"{source}: neither a file nor one of {names}{near_miss(source, BUNDLED_DATASETS)}"
        )
    frame = read_frame(path)
    if path.suffix.lower() != ".npz":
        return frame, ()
    columns = frame.collect_schema().names()
    return frame, tuple(column for column in columns if column.startswith("y"))


def _column_kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Boolean:
        return "boolean"
    return "integer" if dtype.is_integer() else "float"
