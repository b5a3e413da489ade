"""The command `score`, which streams a CSV or Parquet file through the predictor.

The destination file appears only once it is complete.
"""

import csv
import functools
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cli.commands import InputError
from cli.progress import progress_bar
from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor
from tabular.names import find_name, names_by_key, near_miss
from tabular.separator import guess_separator


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--keep", multiple=True, help="Column to copy to DESTINATION; may be repeated.")
def score(artifact: Path, source: Path, destination: Path, keep: Sequence[str]) -> None:
    """Predict every row of SOURCE (CSV or Parquet) and write the predictions to DESTINATION.

    ARTIFACT is artifacts/NAME (its newest version) or artifacts/NAME/VERSION. Columns are matched
    by name; rows are streamed, so the files may be larger than memory.
    """
    if destination.suffix not in (".csv", ".parquet"):
        raise InputError(f"{destination}: expected .csv or .parquet, found '{destination.suffix}'")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise InputError(f"{destination}: expected a file other than the source")
    if not destination.parent.is_dir():
        raise InputError(f"{destination.parent}: no such folder")
    predictor = Predictor(artifact)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    keep = list(dict.fromkeys(keep))
    try:
        rows = _stream(predictor, source, destination, keep, console)
    except (pl.exceptions.PolarsError, csv.Error) as error:
        raise InputError(f"{source}: {str(error).strip().partition(chr(10))[0]}") from None
    console.print(f"{destination}: {rows} rows scored by {predictor.path}")


def _stream(
    predictor: Predictor, source: Path, destination: Path, keep: Sequence[str], console: Console
) -> int:
    frame = _scan(source)
    columns = frame.collect_schema().names()
    known, inputs = names_by_key(columns), {}
    for name in (*(feature.name for feature in predictor.manifest.features), *keep):
        if (column := find_name(name, known)) is None:
            raise InputError(f"{source}: no column '{name}'{near_miss(name, columns)}")
        inputs[name] = column
    predictions = _prediction_columns(predictor.manifest)
    for name in keep:
        if name in predictions:
            raise InputError(f"{source}: --keep {name}: a prediction column has this name")
    if ignored := [name for name in columns if name not in inputs.values()]:
        console.print(f"ignored columns: {', '.join(ignored)}")

    rows: int = frame.select(pl.len()).collect().item()
    with progress_bar(console) as bar:
        advance = functools.partial(bar.advance, bar.add_task("score", total=rows, note=""))
        stop = threading.Event()

        def on_rows_scored(count: int) -> None:
            if stop.is_set():
                raise InputError("interrupted")
            advance(count)

        frame = frame.select(pl.col(column).alias(name) for name, column in inputs.items())
        scored = _score_frame(frame, predictor, source, keep, on_rows_scored)
        _sink(scored, destination, stop)
    return rows


def _scan(source: Path) -> pl.LazyFrame:
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if source.stat().st_size == 0:
        raise InputError(f"{source}: the file is empty")
    match source.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            with source.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                separator = guess_separator(file.readline())
                file.seek(0)
                header = [name.strip() for name in next(csv.reader(file, delimiter=separator), [])]
            if repeated := [name for name in header if header.count(name) > 1]:
                problem = f"column '{repeated[0]}' appears twice in the header; names must differ"
                raise InputError(f"{source}: {problem}")
            # Read all cells as text, because polars would infer types from the first rows alone.
            return pl.scan_csv(
                source, separator=separator, infer_schema=False, new_columns=header, glob=False
            )
        case ".parquet" | ".pq":
            return pl.scan_parquet(source, glob=False)
        case suffix:
            expected = "expected .csv, .tsv, .txt, .parquet or .pq"
            raise InputError(f"{source}: {expected}, found '{suffix}'")


def _prediction_columns(manifest: Manifest) -> list[str]:
    if manifest.task == "classification":
        return ["prediction", *(f"probability_{value}" for value in manifest.classes)]
    if len(manifest.targets) == 1:
        return ["prediction"]
    return [f"prediction_{target}" for target in manifest.targets]


def _score_frame(
    frame: pl.LazyFrame,
    predictor: Predictor,
    source: Path,
    keep: Sequence[str],
    on_rows_scored: Callable[[int], object],
) -> pl.LazyFrame:
    """Return a lazy frame of the kept columns and the predictions, computed batch by batch."""
    manifest = predictor.manifest
    names = _prediction_columns(manifest)
    # This name is longer than all column names, so it differs from each of them.
    row_column = max(frame.collect_schema().names(), key=len) + " row"
    # If the types of classes differ, which export does not allow, they become text.
    classes = pl.Series(manifest.classes, strict=False)
    types = [classes.dtype if manifest.classes else pl.Float32(), *[pl.Float32()] * len(names[1:])]

    def score_batch(batch: pl.DataFrame) -> pl.DataFrame:
        inputs = [
            _numbers(batch[feature.name], feature.kind, source, batch[row_column])
            for feature in manifest.features
        ]
        outputs = predictor.predict(np.ascontiguousarray(np.stack(inputs, axis=1)))
        values = outputs["probabilities" if manifest.classes else "output"]
        if not (finite := np.isfinite(values).all(axis=1)).all():
            row = batch[row_column][int(finite.argmin())] + 1
            raise InputError(f"{source}: row {row}: the prediction overflows float32")
        columns = [pl.Series(column) for column in values.T]
        if manifest.classes:
            columns.insert(0, classes.gather(outputs["label"]))
        on_rows_scored(len(batch))
        predictions = dict(zip(names, columns, strict=True))
        return pl.DataFrame({name: batch[name] for name in keep} | predictions)

    schema = {**frame.select(keep).collect_schema(), **dict(zip(names, types, strict=True))}
    frame = frame.with_row_index(row_column)
    return frame.map_batches(score_batch, schema=schema, streamable=True)


def _numbers(column: pl.Series, kind: str, source: Path, rows: pl.Series) -> NDArray[np.float32]:
    """Return a column as finite float32, (rows,); a boolean column may hold true and false."""
    cells = column.str.strip_chars() if column.dtype == pl.String else column
    numbers = cells.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and kind == "boolean":
        numbers = numbers.fill_null(cells.replace_strict({"true": 1.0, "false": 0.0}, default=None))
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = numbers.fill_null(float("nan")).to_numpy().astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        index = int(finite.argmin())
        cell = "nothing" if cells[index] in (None, "") else f"'{cells[index]}'"
        where = f"{source}: column '{column.name}', row {rows[index] + 1}"
        raise InputError(f"{where}: expected a number within float32, found {cell}")
    return values


def _sink(frame: pl.LazyFrame, destination: Path, stop: threading.Event) -> None:
    """Stream a frame into a temporary file, then rename the file to the destination.

    If a signal interrupts this, `stop` is set, which the frame's next batch should obey.
    """
    # cli.staging is unsuitable here: it is for folders that only this program writes to.
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=destination.parent) as folder:
        draft = Path(folder) / destination.name
        write = frame.sink_csv if destination.suffix == ".csv" else frame.sink_parquet
        # Only the main thread can handle signals, and polars would block it until the end.
        with ThreadPoolExecutor(max_workers=1) as thread:
            writing = thread.submit(write, draft)
            try:
                writing.result()
            except KeyboardInterrupt:
                stop.set()
                raise
        draft.replace(destination)
