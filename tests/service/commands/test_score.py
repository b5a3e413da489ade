"""service.score: every row of a file, matched by name, all at once or not at all."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.commands import score
from service.commands.score import ScoreError
from service.runtime.predictor import Predictor
from tests.stored import StoredArtifact
from tests.tables import CLASSES
from tests.trained import train_and_export

FEATURES = ["petal, length", "sepal width", "größe", "year"]


@pytest.fixture
def frame(flowers: StoredArtifact) -> pl.DataFrame:
    """The rows the classifier was trained from, with the columns nobody asked for."""
    return pl.read_csv(flowers.csv, separator=";")


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("destination", ["out.csv", "out.parquet"])
def test_scores_are_the_predictor_s(
    flowers: StoredArtifact, frame: pl.DataFrame, tmp_path: Path, source: str, destination: str
) -> None:
    """Columns in another order, others among them: the answers are the predictor's, row by row, bit for bit."""
    shuffled = frame.select("year", "species", "größe", "petal, length", "id", "sepal width")
    if source == "in.csv":
        shuffled.write_csv(tmp_path / source, separator=";", include_bom=True)
    else:
        shuffled.write_parquet(tmp_path / source)
    assert len(frame) == score.score_file(
        flowers.artifact, tmp_path / source, tmp_path / destination, ["id"]
    )
    read = pl.read_csv if destination == "out.csv" else pl.read_parquet
    found = read(tmp_path / destination)
    expected = Predictor(flowers.artifact).predict(
        frame.select(FEATURES).to_numpy().astype(np.float32)
    )
    assert ["id", "prediction", *(f"probability_{name}" for name in CLASSES)] == found.columns
    assert frame["id"].to_list() == found["id"].cast(pl.Int64).to_list()
    assert [CLASSES[label] for label in expected["label"]] == found["prediction"].to_list()
    assert np.array_equal(expected["probabilities"], found[:, 2:].to_numpy().astype(np.float32))


def test_regression(houses: StoredArtifact, tmp_path: Path) -> None:
    """One column, in the target's units."""
    score.score_file(houses.artifact, houses.csv, tmp_path / "out.csv")
    rows = (
        pl.read_csv(houses.csv).select("size m²", "age", "constant").to_numpy().astype(np.float32)
    )
    expected = Predictor(houses.artifact).predict(rows)["output"][:, 0]
    found = pl.read_csv(tmp_path / "out.csv")
    assert ["prediction"] == found.columns
    assert np.array_equal(expected, found["prediction"].to_numpy().astype(np.float32))


def test_many_batches_keep_their_order(flowers: StoredArtifact, tmp_path: Path) -> None:
    """A file of several batches comes out in its own order."""
    rows = 300_000
    values = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    wide = pl.DataFrame(values, schema=FEATURES).with_columns(id=pl.int_range(rows))
    wide.write_parquet(tmp_path / "in.parquet")
    score.score_file(flowers.artifact, tmp_path / "in.parquet", tmp_path / "out.parquet", ["id"])
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert list(range(rows)) == found["id"].to_list()
    expected = Predictor(flowers.artifact).predict(values)["label"]
    assert [CLASSES[label] for label in expected.tolist()] == found["prediction"].to_list()


def test_ignored_columns_are_named(flowers: StoredArtifact, tmp_path: Path) -> None:
    """A column that plays no part is said to play none."""
    ended = CliRunner().invoke(
        main, ["score", str(flowers.artifact), str(flowers.csv), str(tmp_path / "out.csv")]
    )
    assert (0, "") == (ended.exit_code, ended.stdout)
    assert "ignored columns: id, species\n" in ended.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("year").alias("year"), None),
        (
            pl.lit("x").alias("year"),
            "column 'year', row 1: expected a number within float32, found 'x'",
        ),
        (
            pl.lit("").alias("year"),
            "column 'year', row 1: expected a number within float32, found nothing",
        ),
        (
            pl.when(pl.col("id") == 70).then(None).otherwise(pl.col("year")).alias("year"),
            "column 'year', row 71: expected a number within float32, found nothing",
        ),
        (
            pl.lit("1e39").alias("year"),
            "column 'year', row 1: expected a number within float32, found '1e39'",
        ),
        (
            pl.lit("inf").alias("year"),
            "column 'year', row 1: expected a number within float32, found 'inf'",
        ),
    ],
)
def test_bad_cells(
    flowers: StoredArtifact,
    frame: pl.DataFrame,
    tmp_path: Path,
    change: pl.Expr,
    message: str | None,
) -> None:
    """A cell that is no number is named with column and row, the old answers stay, and nothing else is left."""
    frame.with_columns(change).write_csv(tmp_path / "in.csv")
    (tmp_path / "out.csv").write_text("old")
    arguments = [str(flowers.artifact), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    ended = CliRunner().invoke(main, ["score", *arguments])
    if message is None:
        assert 0 == ended.exit_code
        return
    assert (2, f"Error: {tmp_path / 'in.csv'}: {message}\n") == (
        ended.exit_code,
        ended.stderr.splitlines(True)[-1],
    )
    assert {"in.csv", "out.csv"} == {path.name for path in tmp_path.iterdir()}
    assert "old" == (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("source", "destination", "keep", "message"),
    [
        ("nope.csv", "out.csv", [], "nope.csv: no such file"),
        ("empty.csv", "out.csv", [], "empty.csv: the file is empty"),
        ("in.xls", "out.csv", [], "expected .csv, .tsv, .txt, .parquet or .pq, found '.xls'"),
        ("in.csv", "out.xls", [], "expected .csv or .parquet, found '.xls'"),
        ("in.csv", "no/out.csv", [], "no: no such folder"),
        ("in.csv", "out.csv", ["speces"], "no column 'speces' (did you mean 'species'?)"),
        ("short.csv", "out.csv", [], "no column 'year'"),
        (
            "in.csv",
            "out.csv",
            ["prediction"],
            "column 'prediction' to keep has the name of an answer",
        ),
        ("not.parquet", "out.csv", [], "not.parquet"),
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
    """What cannot be scored is said before any work, and nothing is written."""
    frame.with_columns(prediction=1).write_csv(tmp_path / "in.csv")
    frame.drop("year").write_csv(tmp_path / "short.csv")
    for name in ("empty.csv", "in.xls", "not.parquet"):
        (tmp_path / name).write_bytes(b"" if name == "empty.csv" else b"x")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ScoreError) as caught:
        score.score_file(flowers.artifact, tmp_path / source, tmp_path / destination, keep)
    assert message in str(caught.value)
    assert before == sorted(tmp_path.iterdir())


def test_reads_what_train_reads(tmp_path: Path) -> None:
    """True and false, `|` as the separator, a name like a pattern, a column called row: trained and scored alike."""
    path = tmp_path / "in[1].csv"
    lines = [f"{'true' if i % 2 else 'false'}|{i}|{i % 3}|{i / 7}" for i in range(40)]
    path.write_text("flag|row|the longest name of all|y\n" + "\n".join(lines) + "\n")
    made = train_and_export(tmp_path, path, "y")
    assert 40 == score.score_file(made.artifact, path, tmp_path / "out.csv", ["y", "y"])
    assert ["y", "prediction"] == pl.read_csv(tmp_path / "out.csv").columns


def test_source_is_never_the_destination(flowers: StoredArtifact, tmp_path: Path) -> None:
    """Scoring a file into itself would lose it."""
    path = Path(shutil.copy(flowers.csv, tmp_path / "in.csv"))
    with pytest.raises(ScoreError, match="expected another file than the source"):
        score.score_file(flowers.artifact, path, path)
    assert flowers.csv.read_bytes() == path.read_bytes()


def test_column_twice_in_the_header(flowers: StoredArtifact, tmp_path: Path) -> None:
    """Which of two columns of one name is meant cannot be known."""
    (tmp_path / "in.csv").write_text("year,year\n1,2\n")
    with pytest.raises(ScoreError, match="column 'year' stands twice in the header"):
        score.score_file(flowers.artifact, tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    "content", ["a,b\r1,2\r", "x" * 200_000 + ",b\n1,2\n"], ids=["CR only", "long header"]
)
def test_strange_headers(flowers: StoredArtifact, tmp_path: Path, content: str) -> None:
    """A header that is none of ours is one line too."""
    (tmp_path / "in.csv").write_text(content)
    ended = CliRunner().invoke(
        main, ["score", str(flowers.artifact), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    )
    assert (2, 1) == (ended.exit_code, len(ended.stderr.splitlines()))
