"""`python -m service score`: every row of a CSV or Parquet file through the predictor, streamed.

Columns are matched by name, so a file may hold them in any order and hold others too. The answers
appear in the destination all at once, when the last row is done. Needs the extra `score`.
"""

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor
from tabular.names import near_miss
from tabular.separator import guess_separator


class ScoreError(ValueError):
    """The file cannot be scored; the message says where."""


def score_file(artifact: Path, source: Path, destination: Path, keep: Sequence[str] = ()) -> int:
    """Score source into destination, and return how many rows.

    Args:
        artifact: artifacts/<name> or artifacts/<name>/<version>.
        source: .csv, .tsv or .parquet, with a column for every feature.
        destination: .csv or .parquet; replaced when it exists.
        keep: columns of source to carry through, first.

    Raises:
        ScoreError: a column is missing, or a value is not a finite number; nothing is written.
        ArtifactError: the artifact cannot be loaded.
    """
    if destination.suffix not in (".csv", ".parquet"):
        raise ScoreError(f"{destination}: expected .csv or .parquet, found '{destination.suffix}'")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ScoreError(
            f"{destination}: expected another file than the source, which would be lost"
        )
    if not destination.parent.is_dir():
        raise ScoreError(f"{destination.parent}: no such folder")
    predictor = Predictor(artifact)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        rows = _stream(predictor, source, destination, list(dict.fromkeys(keep)), console)
    except (pl.exceptions.PolarsError, csv.Error) as error:
        raise ScoreError(f"{source}: {str(error).strip().partition(chr(10))[0]}") from None
    console.print(f"{destination}: {rows} rows scored by {predictor.path}")
    return rows


def _stream(
    predictor: Predictor, source: Path, destination: Path, keep: Sequence[str], console: Console
) -> int:
    frame = _scan(source)
    found = frame.collect_schema().names()
    features = [feature.name for feature in predictor.manifest.features]
    for name in (*features, *keep):
        if name not in found:
            raise ScoreError(f"{source}: no column '{name}'{near_miss(name, found)}")
    if both := [name for name in keep if name in _answers(predictor.manifest)]:
        raise ScoreError(f"{source}: column '{both[0]}' to keep has the name of an answer")
    if ignored := [name for name in found if name not in {*features, *keep}]:
        console.print(f"ignored columns: {', '.join(ignored)}")

    rows: int = frame.select(pl.len()).collect().item()
    with Progress(
        TextColumn("score"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("score", total=rows)
        scored = _scored(
            frame, predictor, source, features, keep, lambda done: bar.update(task, advance=done)
        )
        _sink(scored, destination)
    return rows


def _scan(source: Path) -> pl.LazyFrame:
    """Open a file without reading it; a CSV's cells stay text, so that no type is guessed from the first rows."""
    if not source.is_file():
        raise ScoreError(f"{source}: no such file")
    if source.stat().st_size == 0:
        raise ScoreError(f"{source}: the file is empty")
    match source.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            with source.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                first = file.readline()
                mark = guess_separator(first)
                file.seek(0)
                header = [name.strip() for name in next(csv.reader(file, delimiter=mark), [])]
            if twice := [name for name in header if header.count(name) > 1]:
                raise ScoreError(
                    f"{source}: column '{twice[0]}' stands twice in the header; names must differ"
                )
            return pl.scan_csv(
                source, separator=mark, infer_schema=False, new_columns=header, glob=False
            )
        case ".parquet" | ".pq":
            return pl.scan_parquet(source, glob=False)
        case other:
            raise ScoreError(
                f"{source}: expected .csv, .tsv, .txt, .parquet or .pq, found '{other}'"
            )


def _answers(manifest: Manifest) -> list[str]:
    """Return the names of the columns that are written beside those kept."""
    if manifest.task == "classification":
        return ["prediction", *(f"probability_{value}" for value in manifest.classes)]
    if len(manifest.targets) == 1:
        return ["prediction"]
    return [f"prediction_{target}" for target in manifest.targets]


def _scored(
    frame: pl.LazyFrame,
    predictor: Predictor,
    source: Path,
    features: Sequence[str],
    keep: Sequence[str],
    done: Callable[[int], object],
) -> pl.LazyFrame:
    manifest = predictor.manifest
    names = _answers(manifest)
    row = (
        max(frame.collect_schema().names(), key=len) + " row"
    )  # longer than any, and so the name of none
    classes = pl.Series(
        manifest.classes, strict=False
    )  # mixed types, which no export writes, become text
    types: list[pl.DataType] = [pl.Float32()] * len(names)
    if manifest.classes:
        types[0] = classes.dtype

    def score(batch: pl.DataFrame) -> pl.DataFrame:
        columns = [
            _numbers(batch[feature.name], feature.kind, source, batch[row])
            for feature in manifest.features
        ]
        rows = np.stack(columns, axis=1)
        outputs = predictor.predict(np.ascontiguousarray(rows))
        values = outputs["probabilities" if manifest.classes else "output"]
        if not (finite := np.isfinite(values).all(axis=1)).all():
            number = batch[row][int(finite.argmin())] + 1
            raise ScoreError(f"{source}: row {number}: the network's answer overflows float32")
        found = [
            pl.Series(name, column)
            for name, column in zip(names[-values.shape[1] :], values.T, strict=True)
        ]
        if manifest.classes:
            found.insert(0, classes.gather(outputs["label"]).alias("prediction"))
        done(len(batch))
        return pl.DataFrame([*(batch[name] for name in keep), *found])

    kept = frame.select(keep).collect_schema()
    schema = {**kept, **dict(zip(names, types, strict=True))}
    wanted = frame.select(*dict.fromkeys((*keep, *features))).with_row_index(row)
    return wanted.map_batches(score, schema=schema, streamable=True)


def _numbers(column: pl.Series, kind: str, source: Path, rows: pl.Series) -> NDArray[np.float32]:
    """Return a column as (rows,) float32, every value finite; true and false are numbers in a boolean column."""
    cells = column.str.strip_chars() if column.dtype == pl.String else column
    numbers = cells.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and kind == "boolean":
        numbers = numbers.fill_null(cells.replace_strict({"true": 1.0, "false": 0.0}, default=None))
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = numbers.fill_null(float("nan")).to_numpy().astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        index = int(finite.argmin())
        shown = "nothing" if cells[index] in (None, "") else f"'{cells[index]}'"
        where = f"{source}: column '{column.name}', row {rows[index] + 1}"
        raise ScoreError(f"{where}: expected a number within float32, found {shown}")
    return values


def _sink(frame: pl.LazyFrame, destination: Path) -> None:
    """Write a frame as it streams, then rename it into place."""
    # A folder, because after Ctrl-C polars may still be writing: what it writes then goes with the folder.
    with tempfile.TemporaryDirectory(
        prefix=".tmp-", dir=destination.parent, ignore_cleanup_errors=True
    ) as folder:
        draft = Path(folder) / destination.name
        if destination.suffix == ".csv":
            frame.sink_csv(draft)
        else:
            frame.sink_parquet(draft)
        draft.replace(destination)
