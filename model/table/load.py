"""Load a Table from a bundled data set or a file."""

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from model.config import BUNDLED_DATASETS
from model.errors import DataError
from model.table.columns import parse_numbers
from model.table.dataset import Kind, Source, Table, Task
from model.table.files import count_rows, read_columns, read_frame, require_columns
from model.table.target import encode_target, infer_task
from tabular.names import near_miss, quote_names

MIN_ROWS = 10
"""Minimum number of rows in a table."""
MIN_ROWS_PER_CLASS = 7
"""Minimum average number of rows per class, with which a stratified split is possible."""


def load_table(
    source: str,
    *,
    targets: Sequence[str] = (),
    drop: Sequence[str] = (),
    task: Task | None = None,
    name: str | None = None,
) -> Table:
    """Load a bundled data set by name, or a CSV, Parquet or NPZ file by path.

    By default, the targets are those that the data set or NPZ file defines, the task is inferred
    from the targets, and the name is that of the data set or file. `drop` lists columns to omit.

    Raises:
        DataError: the file, its columns or its values cannot be used.
    """
    with _errors_about(source):
        frame, own_targets = _open_source(source)
        schema = frame.collect_schema()
        columns = schema.names()
        targets = require_columns(targets, columns, "target column") or own_targets
        drop = require_columns(drop, columns, "column to drop")
        features = _choose_features(columns, targets, own_targets, drop)
        rows = count_rows(frame)
        if rows < MIN_ROWS:
            raise DataError(f"expected at least {MIN_ROWS} rows, found {rows}")
        target_columns = list(read_columns(frame, targets))
        task, note = infer_task(target_columns, task)
        x = np.empty((rows, len(features)), np.float32)
        for index, column in enumerate(read_columns(frame, features)):
            x[:, index] = parse_numbers(column)
        classes, y = encode_target(target_columns, task)
        if rows < (min_rows := MIN_ROWS_PER_CLASS * len(classes)):
            expected = f"expected at least {min_rows} rows for {len(classes)} classes"
            raise DataError(f"{expected}, found {rows}; add rows or merge classes")
        return Table(
            name=run_name(name or Path(source).stem),
            task=task,
            features=features,
            kinds=tuple(_column_kind(schema[feature]) for feature in features),
            x=x,
            targets=targets,
            y=y,
            classes=classes,
            notes=(note,),
            source=_describe_source(source, drop),
        )


@contextlib.contextmanager
def _errors_about(source: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def run_name(text: str) -> str:
    """Return text as a name of [a-z0-9_-]: lower-case, without accents, dashes for the rest."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-") or "data"


def _choose_features(
    columns: Sequence[str], targets: Sequence[str], own_targets: Sequence[str], drop: Sequence[str]
) -> tuple[str, ...]:
    """Return the columns that are neither targets nor dropped; raise DataError if none is left."""
    if not targets:
        raise DataError(f"choose a column to predict (--target); there are {quote_names(columns)}")
    if both := [target for target in targets if target in drop]:
        raise DataError(f"column '{both[0]}' is both target and dropped")
    features = tuple(column for column in columns if column not in {*targets, *drop, *own_targets})
    if not features:
        raise DataError("no columns are left for the features")
    return features


def _open_source(source: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return the frame of a data set or a file, and the names of its predefined targets."""
    if source in BUNDLED_DATASETS:
        return _load_bundled(source)
    path = Path(source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUNDLED_DATASETS)
        raise DataError(f"neither a file nor one of {names}{near_miss(source, BUNDLED_DATASETS)}")
    frame = read_frame(path)
    if path.suffix.lower() != ".npz":
        return frame, ()
    columns = frame.collect_schema().names()
    return frame, tuple(column for column in columns if column.startswith("y"))


def _describe_source(source: str, drop: tuple[str, ...]) -> Source:
    if source in BUNDLED_DATASETS:
        return Source(path=source, size_bytes=None, sha256=None, dropped_columns=drop)
    path = Path(source).absolute()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Source(path=str(path), size_bytes=file.tell(), sha256=digest, dropped_columns=drop)


def _load_bundled(name: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return the frame of a bundled data set, and the names of its target columns."""
    if name == "synthetic":
        # The reference problem has 64 training rows of noise: 64 percent of 100 rows.
        noise = np.random.default_rng(0).standard_normal((100, 1010))
        targets = tuple(f"y{i}" for i in range(10))
        schema = [*(f"x{i}" for i in range(1000)), *targets]
        return pl.LazyFrame(noise, schema=schema), targets
    from sklearn import datasets

    kwargs = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**kwargs)
    target = bunch.target
    if name in ("wine", "breast_cancer"):
        target = np.asarray(bunch.target_names)[target]
    frame = pl.LazyFrame(bunch.data, schema=[str(feature) for feature in bunch.feature_names])
    return frame.with_columns(pl.Series("target", target.tolist())), ("target",)


def _column_kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Boolean:
        return "boolean"
    return "integer" if dtype.is_integer() else "float"
