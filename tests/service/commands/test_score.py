"""Tests of the command `score`: columns are matched by name; errors leave no partial file."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.runtime.predictor import Predictor
from tests.stored import StoredArtifact
from tests.tables import CLASSES

FEATURES = ["petal, length", "sepal width", "größe", "year"]


def run_score(*files: Path, keep: Sequence[str] = (), code: int = 0) -> str:
    """Run the command in this process, check its exit code and return its standard error."""
    options = [f"--keep={name}" for name in keep]
    result = CliRunner().invoke(main, ["score", *map(str, files), *options])
    assert (code, "") == (result.exit_code, result.stdout), result.stderr
    return result.stderr


@pytest.fixture
def frame(flowers: StoredArtifact) -> pl.DataFrame:
    """The table of the classifier, with the unused columns `id` and `species`."""
    return pl.read_csv(flowers.csv, separator=";")


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("destination", ["out.csv", "out.parquet"])
def test_scores_are_the_predictions(
    flowers: StoredArtifact, frame: pl.DataFrame, tmp_path: Path, source: str, destination: str
) -> None:
    """Columns in any order and spelling, mixed with unused ones, give the predictor's outputs."""
    shuffled = frame.select("year", "species", "größe", "petal, length", "id", "sepal width")
    shuffled.columns = [normalize("NFD", name) for name in shuffled.columns]
    if source == "in.csv":
        shuffled.write_csv(tmp_path / source, separator=";", include_bom=True)
    else:
        shuffled.write_parquet(tmp_path / source)
    files = tmp_path / source, tmp_path / destination
    summary = f"{files[1]}: {len(frame)} rows scored by {flowers.artifact}\n"
    text = run_score(flowers.artifact, *files, keep=["id", "id"])
    assert f"ignored columns: species\n{summary}" == text
    read = pl.read_csv if destination == "out.csv" else pl.read_parquet
    scores = read(tmp_path / destination)
    rows = frame.select(FEATURES).to_numpy().astype(np.float32)
    expected = Predictor(flowers.artifact).predict(rows)
    assert ["id", "prediction", *(f"probability_{name}" for name in CLASSES)] == scores.columns
    assert frame["id"].to_list() == scores["id"].cast(pl.Int64).to_list()
    assert [CLASSES[label] for label in expected["label"]] == scores["prediction"].to_list()
    assert np.array_equal(expected["probabilities"], scores[:, 2:].to_numpy().astype(np.float32))


def test_regression_from_an_unusual_csv(
    houses: StoredArtifact, tmp_path: Path, repack: Callable[[Path], None]
) -> None:
    """Unusual separators, booleans, file names and column names are read correctly."""
    artifact = Path(shutil.copytree(houses.artifact, tmp_path / "houses" / "1"))
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["features"][0]["name"], manifest["features"][1]["name"] = "row", "row row"
    manifest["features"][2]["kind"] = "boolean"
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    repack(artifact)
    source = tmp_path / "in[1].csv"
    source.write_text("constant|row row|row\nfalse|1|10\ntrue|2|20\n0.5| 3 |30\n")
    (tmp_path / "in1.csv").write_text("a pattern would read this file\n")
    run_score(artifact, source, tmp_path / "out.parquet")
    rows = np.array([[10, 1, 0], [20, 2, 1], [30, 3, 0.5]], np.float32)
    expected = Predictor(artifact).predict(rows)["output"][:, 0].tolist()
    scores = pl.read_parquet(tmp_path / "out.parquet")
    assert {"prediction": expected} == scores.to_dict(as_series=False)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_kept_spellings_of_a_feature(
    flowers: StoredArtifact, frame: pl.DataFrame, tmp_path: Path, form: Literal["NFC", "NFD"]
) -> None:
    """A feature may be kept under both spellings of its name, whichever one the table has."""
    frame.columns = [normalize(form, name) for name in frame.columns]
    frame.write_parquet(tmp_path / "in.parquet")
    names = ["größe", normalize("NFD", "größe")]
    run_score(flowers.artifact, tmp_path / "in.parquet", tmp_path / "out.parquet", keep=names)
    scores = pl.read_parquet(tmp_path / "out.parquet")
    values = frame[normalize(form, "größe")].to_list()
    assert [values, values] == [scores[name].to_list() for name in names]


def test_rows_of_many_batches_keep_their_order(flowers: StoredArtifact, tmp_path: Path) -> None:
    """The scores of several batches are in the order of the file."""
    rows = 300_000
    values = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    wide = pl.DataFrame(values, schema=FEATURES).with_columns(id=pl.int_range(rows))
    wide.write_parquet(tmp_path / "in.parquet")
    files = tmp_path / "in.parquet", tmp_path / "out.parquet"
    run_score(flowers.artifact, *files, keep=["id"])
    scores = pl.read_parquet(tmp_path / "out.parquet")
    assert list(range(rows)) == scores["id"].to_list()
    expected = Predictor(flowers.artifact).predict(values)["label"]
    assert [CLASSES[label] for label in expected.tolist()] == scores["prediction"].to_list()


@pytest.mark.parametrize(
    ("cell", "row", "text"),
    [
        (pl.lit("x"), 1, "'x'"),
        (pl.lit(""), 1, "nothing"),
        (pl.lit("1e39"), 1, "'1e39'"),
        (pl.lit("inf"), 1, "'inf'"),
        (pl.lit("true"), 1, "'true'"),
        (pl.when(pl.col("id") == 70).then(None).otherwise(pl.col("year")), 71, "nothing"),
    ],
)
def test_bad_cells(
    flowers: StoredArtifact, frame: pl.DataFrame, tmp_path: Path, cell: pl.Expr, row: int, text: str
) -> None:
    """The error names column and row; the old destination is kept, and no new file is left."""
    source, destination = tmp_path / "in.csv", tmp_path / "out.csv"
    frame.with_columns(cell.alias("year")).write_csv(source)
    destination.write_text("old")
    last = run_score(flowers.artifact, source, destination, code=2).splitlines()[-1]
    place = f"{source}: column 'year', row {row}"
    assert f"Error: {place}: expected a number within float32, found {text}" == last
    assert {"in.csv", "out.csv"} == {path.name for path in tmp_path.iterdir()}
    assert "old" == destination.read_text()


@pytest.mark.parametrize(
    ("source", "destination", "keep", "message"),
    [
        ("nope.csv", "out.csv", [], "nope.csv: no such file"),
        ("empty.csv", "out.csv", [], "empty.csv: the file is empty"),
        ("in.xls", "out.csv", [], "expected .csv, .tsv, .txt, .parquet or .pq, found '.xls'"),
        ("not.parquet", "out.csv", [], "not.parquet"),
        ("in.csv", "out.xls", [], "expected .csv or .parquet, found '.xls'"),
        ("in.csv", "no/out.csv", [], "no: no such folder"),
        ("in.csv", "in.csv", [], "in.csv: expected a file other than the source"),
        ("in.csv", "out.csv", ["speces"], "no column 'speces' (did you mean 'species'?)"),
        ("in.csv", "out.csv", ["prediction"], "--keep prediction: a prediction column"),
        ("short.csv", "out.csv", [], "no column 'year'"),
        ("twice.csv", "out.csv", [], "column 'year' appears twice in the header; names must"),
        ("returns.csv", "out.csv", [], "returns.csv"),
        ("long.csv", "out.csv", [], "long.csv"),
    ],
)
def test_bad_files(
    flowers: StoredArtifact,
    frame: pl.DataFrame,
    tmp_path: Path,
    source: str,
    destination: str,
    keep: list[str],
    message: str,
) -> None:
    """An invalid file gives an error of one line, and no file is written."""
    frame.with_columns(prediction=1).write_csv(tmp_path / "in.csv")
    frame.drop("year").write_csv(tmp_path / "short.csv")
    contents = {
        "empty.csv": "",
        "in.xls": "x",
        "not.parquet": "x",
        "twice.csv": "year,year\n1,2\n",
        "returns.csv": "a,b\r1,2\r",
        "long.csv": "x" * 200_000 + ",b\n1,2\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, newline="")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    files = tmp_path / source, tmp_path / destination
    text = run_score(flowers.artifact, *files, keep=keep, code=2)
    assert message in text
    assert 1 == len(text.splitlines())
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("destination", ["out.csv", "out.parquet"])
def test_signal_leaves_no_files(
    flowers: StoredArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    destination: str,
) -> None:
    """A signal while polars writes ends the command at the next batch and removes the draft."""
    predict = Predictor.predict

    def predict_and_signal(predictor: Predictor, rows: Any) -> Any:
        os.kill(os.getpid(), number)
        return predict(predictor, rows)

    monkeypatch.setattr(Predictor, "predict", predict_and_signal)
    word = "interrupted" if number == signal.SIGINT else "terminated"
    text = run_score(flowers.artifact, flowers.csv, tmp_path / destination, code=128 + number)
    assert f"Error: {word}; no incomplete files remain" == text.splitlines()[-1]
    assert [] == list(tmp_path.iterdir())


def test_out_of_memory(
    flowers: StoredArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed allocation while polars calls the predictor gives one line and no file."""
    monkeypatch.setattr(Predictor, "predict", lambda predictor, rows: np.empty(1 << 57))
    text = run_score(flowers.artifact, flowers.csv, tmp_path / "out.csv", code=2)
    expected = (
        "Error: out of memory (an allocation of 1.00 EiB failed): free memory, or raise the memory "
    )
    assert text.splitlines()[-1].startswith(expected)
    assert [] == list(tmp_path.iterdir())
