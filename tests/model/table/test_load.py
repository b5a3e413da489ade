"""Tests of model.table.load: the Table of a file or data set, its name and its errors."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import polars as pl
import pytest

from model.errors import DataError
from model.table.dataset import Source
from model.table.load import load_table, run_name
from tests.model.table.conftest import WriteFile

WriteColumns = Callable[..., str]
Form = Literal["NFC", "NFD"]
ROWS = 42
A = [index / 8 for index in range(ROWS)]
LABELS = [1, 2] * (ROWS // 2)
A_AND_T = {"a": A, "t": A}
PRICES = {"a": A, "price €": A}


@pytest.fixture
def write_columns(write_file: WriteFile) -> WriteColumns:
    """Return a function that writes columns to a CSV file and returns the file name."""

    def write(columns: dict[str, Any], name: str = "a.csv") -> str:
        pl.DataFrame(columns, strict=False).write_csv(write_file(name, ""))
        return name

    return write


def test_columns_keep_names_order_kinds_and_values(write_columns: WriteColumns) -> None:
    """Features are all columns except targets and dropped ones, in the order of the file."""
    columns = {
        "id": ["x"] * ROWS,
        "größe, m²": A,
        "t": A,
        "year": range(2000, 2000 + ROWS),
        "new": [True, False] * (ROWS // 2),
    }
    table = load_table(write_columns(columns), targets=["t"], drop=["id"])
    features = ("größe, m²", "year", "new")
    assert features == table.features
    assert ("float", "integer", "boolean") == table.kinds
    assert np.array_equal(np.array([columns[name] for name in features], np.float32).T, table.x)
    assert np.array_equal(np.array(A)[:, None], table.y)


def test_several_targets(write_columns: WriteColumns) -> None:
    """Several targets make a regression; they keep the order of --target, without duplicates."""
    columns = {"a": A, "t": A, "u": A[::-1]}
    table = load_table(write_columns(columns), targets=["u", "t", "u"])
    expected = ("u", "t"), ("a",), "regression"
    assert expected == (table.targets, table.features, table.task)
    assert np.array_equal(np.stack([A[::-1], A], axis=1), table.y)


def test_source(write_columns: WriteColumns) -> None:
    """A table names its file by absolute path, size and hash, and the dropped columns."""
    path = Path(write_columns(PRICES | {"id": A}))
    content = path.read_bytes()
    source = load_table(str(path), targets=["a"], drop=["id", "id"]).source
    digest = hashlib.sha256(content).hexdigest()
    expected = Source(
        path=str(Path.cwd() / path), size_bytes=len(content), sha256=digest, dropped_columns=("id",)
    )
    assert expected == source
    bundled = load_table("wine", drop=["hue"]).source
    assert Source(path="wine", size_bytes=None, sha256=None, dropped_columns=("hue",)) == bundled


def test_npz_names_its_targets(tmp_path: Path) -> None:
    """In an NPZ file, array x holds the features and y the targets; --target is not needed."""
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["no", "yes", "yes"] * 10))
    table = load_table(str(tmp_path / "a.npz"))
    expected = ("x0", "x1"), ("y",), ("no", "yes")
    assert expected == (table.features, table.targets, table.classes)
    assert np.array_equal(x, table.x)
    assert np.array_equal([0, 1, 1] * 10, table.y)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("table_form", ["NFC", "NFD"])
def test_spellings_of_a_name(write_columns: WriteColumns, form: Form, table_form: Form) -> None:
    """--target and --drop may spell a name otherwise than the table, whose spelling is kept."""
    price, year, area = (normalize(table_form, name) for name in ("prix é", "année", "größe"))
    path = write_columns({price: A, year: A, area: A})
    table = load_table(path, targets=[normalize(form, price)], drop=[normalize(form, year)])
    assert ((price,), (area,)) == (table.targets, table.features)


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        (
            PRICES,
            {"targets": []},
            "choose a column to predict (--target); there are 'a', 'price €'",
        ),
        (
            PRICES,
            {"targets": ["Price"]},
            "no target column 'Price' (did you mean 'price €'?); there are 'a', 'price €'",
        ),
        (
            {"t": A, "\xe9": A, "e\u0301": A},
            {},
            "columns 2 and 3: expected different names, found two spellings of '\xe9'; rename one",
        ),
        (A_AND_T, {"drop": ["s"]}, "no column to drop 's'; there are 'a', 't'"),
        (A_AND_T, {"drop": ["t"]}, "column 't' is both target and dropped"),
        (A_AND_T, {"drop": ["a"]}, "no columns are left for the features"),
        ({"a": A[:9], "t": A[:9]}, {}, "expected at least 10 rows, found 9"),
        (
            {"a": A[:13], "t": LABELS[:13]},
            {},
            "expected at least 14 rows for 2 classes, found 13; add rows or merge classes",
        ),
        (
            {"a": A, "t": A, "u": A},
            {"targets": ["t", "u"], "task": "classification"},
            "classification takes one target, found 2",
        ),
    ],
)
def test_bad_table(
    write_columns: WriteColumns, columns: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    """Columns or options that do not make a table give a one-line error."""
    with pytest.raises(DataError) as caught:
        load_table(write_columns(columns), **{"targets": ["t"], **options})
    assert f"a.csv: {expected}" == str(caught.value)
    assert [Path("a.csv")] == list(Path().iterdir())


@pytest.mark.parametrize(
    ("source", "hint"),
    [("digit", " (did you mean 'digits'?)"), ("Wine", " (did you mean 'wine'?)"), ("houses", "")],
)
def test_unknown_name(source: str, hint: str) -> None:
    """For a name that is neither a file nor bundled, the error lists the bundled names."""
    with pytest.raises(DataError) as caught:
        load_table(source)
    names = "digits, diabetes, wine, breast_cancer, synthetic"
    assert f"{source}: neither a file nor one of {names}{hint}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Häuser 2024 (final)", "hauser-2024-final"),
        ("../../etc/passwd", "etc-passwd"),
        ("家", "data"),
        ("--", "data"),
        ("a_b-c", "a_b-c"),
    ],
)
def test_run_name(text: str, expected: str) -> None:
    """run_name() returns a name that is safe in a path and in a URL."""
    assert expected == run_name(text)


def test_name_of_a_table(write_columns: WriteColumns) -> None:
    """The name of a table is the stem of the file unless the caller passes a name."""
    source = write_columns(A_AND_T, "My Houses.csv")
    for name, expected in ((None, "my-houses"), ("X/Y", "x-y")):
        assert expected == load_table(source, targets=["t"], name=name).name
