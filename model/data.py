"""A named data set or a file becomes a Table, its task inferred from the type of the target."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from model.config import BUNDLED
from model.files import (
    MISSING_CLASSES,
    count_rows,
    numbers,
    read_columns,
    read_frame,
    refuse_missing,
    require_columns,
)
from model.table import ClassValue, DataError, FloatArray, IntArray, Kind, Table, Task, near_miss, quoted

MOST_INTEGER_CLASSES = 20
LEAST_ROWS = 10
LARGEST_TARGET = 1e18
"""A squared error of more leaves float32."""
LEAST_ROWS_PER_CLASS = 7  # on average: each of train, validation and test holds every class


def load(
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
    frame, own_targets = _bundled(source) if source in BUNDLED else _file(source)
    schema = frame.collect_schema()
    columns = schema.names()
    targets = tuple(dict.fromkeys(targets)) or own_targets
    if not targets:
        raise DataError(f"{source}: say which column to predict (--target); it has {quoted(columns)}")
    require_columns(targets, columns, "target column", source)
    require_columns(drop, columns, "column to drop", source)
    if both := [target for target in targets if target in drop]:
        raise DataError(f"{source}: column '{both[0]}' is both target and dropped")
    features = tuple(column for column in columns if column not in {*targets, *drop, *own_targets})
    if not features:
        raise DataError(f"{source}: no feature columns are left beside the target")

    rows = count_rows(frame, source)
    if rows < LEAST_ROWS:
        raise DataError(f"{source}: expected at least {LEAST_ROWS} rows, found {rows}")
    predicted = list(read_columns(frame, targets, source))
    chosen, note = _task(predicted, task)
    x = np.empty((rows, len(features)), np.float32)
    for index, column in enumerate(read_columns(frame, features, source)):
        x[:, index] = numbers(column, source)
    y: FloatArray | IntArray
    classes: tuple[ClassValue, ...] = ()
    if chosen == "classification":
        if len(targets) > 1:
            raise DataError(f"{source}: classification takes one target, found {len(targets)}")
        classes, y = _classes(predicted[0], source)
    else:
        y = np.stack([numbers(column, source) for column in predicted], axis=1)
        for target, low, high in zip(targets, y.min(axis=0), y.max(axis=0), strict=True):
            if max(-low, high) > LARGEST_TARGET:
                raise DataError(
                    f"{source}: target '{target}': expected values within {LARGEST_TARGET:g}, found {high:g}"
                )
            if low == high:
                raise DataError(f"{source}: target '{target}' is {low:g} in every row: nothing to learn")
    if rows < (needed := LEAST_ROWS_PER_CLASS * len(classes)):
        raise DataError(f"{source}: expected at least {needed} rows for {len(classes)} classes, found {rows}")
    return Table(
        name=run_name(name or (source if source in BUNDLED else Path(source).stem)),
        task=chosen,
        features=features,
        kinds=tuple(_kind(schema[feature]) for feature in features),
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


def _file(source: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    path = Path(source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUNDLED)
        raise DataError(f"{source}: neither a file nor one of {names}{near_miss(source, BUNDLED)}")
    frame = read_frame(path)
    if path.suffix.lower() != ".npz":
        return frame, ()
    return frame, tuple(column for column in frame.collect_schema().names() if column.startswith("y"))


def _bundled(name: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    if name == "synthetic":
        # The reference set-up fits N=64 rows of standard-normal noise, 1000 -> 100 -> 10: 64 of these 100 train.
        noise = np.random.default_rng(0).standard_normal((100, 1010))
        targets = tuple(f"y{i}" for i in range(10))
        return pl.DataFrame(noise, schema=[*(f"x{i}" for i in range(1000)), *targets]).lazy(), targets
    from sklearn import datasets

    kwargs = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**kwargs)
    target = bunch.target
    if name in ("wine", "breast_cancer"):
        target = np.asarray(bunch.target_names)[target]
    frame = pl.LazyFrame(bunch.data, schema=[str(feature) for feature in bunch.feature_names])
    return frame.with_columns(pl.Series("target", target.tolist())), ("target",)


def _task(columns: Sequence[pl.Series], asked: Task | None) -> tuple[Task, str]:
    """Infer the task from the targets' types, and say so with the flag that overrides it."""
    names = ", ".join(f"'{column.name}'" for column in columns)
    if asked:
        return asked, f"{asked} of {names}, as asked"
    column = columns[0]
    task: Task
    other: Task
    if len(columns) > 1:
        return "regression", f"{len(columns)} targets -> regression"
    if column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return "classification", f"target {names} holds {_plain_type(column)} -> classification"
    if column.dtype.is_integer() and (distinct := column.n_unique()) <= MOST_INTEGER_CLASSES:
        task, reason, other = "classification", f"{distinct} distinct integers", "regression"
    else:
        task, reason, other = "regression", f"{_plain_type(column)} values", "classification"
    return task, f"target {names} holds {reason} -> {task} (--task {other} overrides)"


def _plain_type(column: pl.Series) -> str:
    if column.dtype == pl.Boolean:
        return "true/false"
    if column.dtype.is_integer():
        return "many distinct integer"
    return "decimal" if column.dtype.is_numeric() else "text"


def _classes(column: pl.Series, source: str) -> tuple[tuple[ClassValue, ...], IntArray]:
    """Return the distinct values in sorted order and each row's index into them."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.set(column.str.to_lowercase().is_in(MISSING_CLASSES), None)
    if column.dtype.is_integer() and column.cast(pl.Int64, strict=False).null_count() > column.null_count():
        raise DataError(f"{source}: target '{column.name}': expected integers of 64 bits, found larger ones")
    if column.dtype.is_integer() or column.dtype in (pl.String, pl.Boolean):
        refuse_missing(column, source)
        labels = column.to_numpy()
    else:
        labels = numbers(column, source)
    values, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
    classes: tuple[ClassValue, ...] = tuple(values.tolist())
    if len(classes) < 2:
        raise DataError(
            f"{source}: target '{column.name}' is {classes[0]!r} in every row: expected two classes or more"
        )
    if counts.min() < 3:
        if column.dtype == pl.String and 2 * column.cast(pl.Float64, strict=False).count() > len(column):
            numbers(column, source)  # names the text in what is a column of numbers
        rare = classes[int(counts.argmin())]
        raise DataError(
            f"{source}: class {rare!r} of target '{column.name}': expected at least 3 rows (one each for train, "
            f"validation and test), found {counts.min()}"
        )
    return classes, indices.astype(np.int64)


def _kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Boolean:
        return "boolean"
    return "integer" if dtype.is_integer() else "float"
