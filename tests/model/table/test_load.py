"""model.data: from a name or a file to a Table, and the task inferred from its target."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.errors import DataError
from model.table import load
from model.table.dataset import Task

Write = Callable[..., str]


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes columns to a.csv or a.parquet in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(columns: dict[str, Any], name: str = "a.csv") -> str:
        content = pl.DataFrame(columns, strict=False)
        (content.write_parquet if name.endswith("parquet") else content.write_csv)(name)
        return name

    return write


N = 42
A = [index / 8 for index in range(N)]


@pytest.mark.parametrize(
    ("name", "rows", "in_features", "task", "out_features"),
    [
        ("digits", 1797, 64, "classification", 10),
        ("diabetes", 442, 10, "regression", 1),
        ("wine", 178, 13, "classification", 3),
        ("breast_cancer", 569, 30, "classification", 2),
        ("synthetic", 100, 1000, "regression", 10),
    ],
)
def test_bundled(name: str, rows: int, in_features: int, task: Task, out_features: int) -> None:
    """Each bundled set has the shape it is known for, and is the same at every call."""
    table = load.load_table(name)
    assert (name, task, (rows, in_features)) == (table.name, table.task, table.x.shape)
    assert (in_features, in_features) == (len(table.features), len(table.kinds))
    assert ((rows,) if table.classes else (rows, out_features)) == table.y.shape
    assert out_features == table.out_features
    assert np.array_equal(table.x, load.load_table(name).x)


def test_bundled_values_are_scikit_learns() -> None:
    """Nothing is scaled, reordered or renamed on the way."""
    from sklearn.datasets import load_diabetes, load_wine

    wine, diabetes = load.load_table("wine"), load.load_table("diabetes")
    assert np.array_equal(load_wine().data.astype(np.float32), wine.x)
    assert load_wine().target_names.tolist() == list(wine.classes)
    assert np.array_equal(load_wine().target, wine.y)
    assert np.array_equal(load_diabetes(scaled=False).data.astype(np.float32), diabetes.x)
    assert np.array_equal(load_diabetes().target, diabetes.y[:, 0])


@pytest.mark.parametrize(
    ("target", "task", "classes", "note"),
    [
        (["b", "a c", "ä"], "classification", ("a c", "b", "ä"), "holds text -> classification"),
        ([True, False], "classification", (False, True), "holds true/false -> classification"),
        (
            [3, 1, 7],
            "classification",
            (1, 3, 7),
            "holds 3 distinct integers -> classification (--task regression overrides)",
        ),
        (
            list(range(20)),
            "classification",
            tuple(range(20)),
            "holds 20 distinct integers -> classification (--task regression overrides)",
        ),
        (
            list(range(21)),
            "regression",
            (),
            "holds many distinct integer values -> regression (--task classification overrides)",
        ),
        (
            [0.0, 1.5],
            "regression",
            (),
            "holds decimal values -> regression (--task classification overrides)",
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_task_is_inferred_from_the_target(
    frame: Write, target: list[Any], task: Task, classes: tuple[Any, ...], note: str, suffix: str
) -> None:
    """Text and booleans are classes, decimals are not, integers are up to 20 of them; and it is said."""
    values = (target * 140)[:140]
    source = frame({"x": range(140), "t €": values}, f"a.{suffix}")
    table = load.load_table(source, targets=["t €"])
    assert (task, (f"target 't €' {note}",)) == (table.task, table.notes)
    assert [(type(value), value) for value in classes] == [
        (type(value), value) for value in table.classes
    ]
    if classes:
        assert values == [table.classes[index] for index in table.y]
    else:
        assert [[float(value)] for value in values] == table.y.tolist()


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ([1, 2], "regression", ()),
        ([0.5, 1.5], "classification", (0.5, 1.5)),
        ([Decimal("1.5"), Decimal(2)], "classification", (1.5, 2.0)),
    ],
)
def test_task_as_asked(
    frame: Write, target: list[Any], task: Task, classes: tuple[Any, ...]
) -> None:
    """--task overrides what the type suggests, and classes are what JSON can hold."""
    table = load.load_table(
        frame({"x": A, "t": target * (N // 2)}, "a.parquet"), targets=["t"], task=task
    )
    assert (task, classes, (f"{task} of 't', as asked",)) == (
        table.task,
        table.classes,
        table.notes,
    )


def test_categories_are_text(frame: Write) -> None:
    """A dictionary-encoded column of Parquet is a column of labels."""
    labels = pl.Series(["b", "a"] * (N // 2), dtype=pl.Categorical)
    table = load.load_table(frame({"x": A, "t": labels}, "a.parquet"), targets=["t"])
    assert ("a", "b") == table.classes
    assert np.array_equal([1, 0] * (N // 2), table.y)


def test_columns_keep_names_order_kinds_and_values(frame: Write) -> None:
    """Features are the columns that are neither target nor dropped, in the file's order."""
    columns = {
        "id": ["x"] * N,
        "größe, m²": A,
        "t": A,
        "year": range(2000, 2000 + N),
        "new": [True, False] * (N // 2),
    }
    table = load.load_table(frame(columns), targets=["t"], drop=["id"])
    features = ("größe, m²", "year", "new")
    expected = np.array([columns[name] for name in features], np.float32).T
    assert features == table.features
    assert [*"fib"] == [kind[0] for kind in table.kinds]
    assert np.array_equal(expected, table.x)
    assert np.array_equal(np.array(A)[:, None], table.y)


def test_several_targets(frame: Write) -> None:
    """Several targets are regression, in the order asked for."""
    table = load.load_table(frame({"a": A, "t": A, "u": A[::-1]}), targets=["u", "t", "u"])
    expected = ("u", "t"), ("a",), ("2 targets -> regression",)
    assert expected == (table.targets, table.features, table.notes)
    assert np.array_equal(np.stack([A[::-1], A], axis=1), table.y)


def test_npz_names_its_own_targets(tmp_path: Path) -> None:
    """Columns of y are targets, columns of x features, without --target."""
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["no", "yes", "yes"] * 10))
    table = load.load_table(str(tmp_path / "a.npz"))
    expected = ("x0", "x1"), ("y",), ("no", "yes")
    assert expected == (table.features, table.targets, table.classes)
    assert np.array_equal(x, table.x)
    assert np.array_equal([0, 1, 1] * 10, table.y)


MISSING = "; this version refuses missing values: fill them in or remove the rows"
DECIMALS = [str(value) for value in A]


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        (
            {"a": A, "price €": A},
            {"targets": []},
            "say which column to predict (--target); it has 'a', 'price €'",
        ),
        (
            {"a": A, "price €": A},
            {"targets": ["Price"]},
            "no target column 'Price' (did you mean 'price €'?); there are 'a', 'price €'",
        ),
        ({"a": A, "t": A}, {"targets": ["zzz"]}, "no target column 'zzz'; there are 'a', 't'"),
        (
            {"area": A, "t": A},
            {"drop": ["aera"]},
            "no column to drop 'aera' (did you mean 'area'?); there are 'area', 't'",
        ),
        ({"a": A, "t": A}, {"drop": ["t"]}, "column 't' is both target and dropped"),
        ({"a": A, "t": A}, {"drop": ["a"]}, "no feature columns are left beside the target"),
        (
            {"a": A, "t": A},
            {"targets": ["a", "t"]},
            "no feature columns are left beside the target",
        ),
        (
            {"a": [*DECIMALS[:-1], "two"], "t": A},
            {},
            "column 'a', row 42: expected a number, found 'two'; a column of text is left out with --drop",
        ),
        (
            {"a": A, "t": [*DECIMALS[:-2], "1O.5", "2"]},
            {},
            "column 't', row 41: expected a number, found '1O.5'; a column of text is left out with --drop",
        ),
        (
            {"a": [None, *A[1:]], "t": A},
            {},
            "column 'a': 1 missing value, the first in row 1" + MISSING,
        ),
        (
            {"a": A, "t": [*A[:3], None, None, *A[5:]]},
            {},
            "column 't': 2 missing values, the first in row 4" + MISSING,
        ),
        (
            {"a": A, "t": ["0", "1", "NA"] * 14},
            {},
            "column 't': 14 missing values, the first in row 3" + MISSING,
        ),
        (
            {"a": A, "t": ["x", " ", "y"] * 14},
            {},
            "column 't': 14 missing values, the first in row 2" + MISSING,
        ),
        (
            {"a": A, "t": ["x"] * N},
            {},
            "target 't' is 'x' in every row: expected two classes or more",
        ),
        ({"a": A, "t": [7] * N}, {}, "target 't' is 7 in every row: expected two classes or more"),
        ({"a": A, "t": [0.5] * N}, {}, "target 't' is 0.5 in every row: nothing to learn"),
        (
            {"a": A, "t": ["x", "y"] * 20 + ["z", "z"]},
            {},
            "class 'z' of target 't': expected at least 3 rows (one each for train, validation and test), found 2",
        ),
        ({"a": A[:9], "t": A[:9]}, {}, "expected at least 10 rows, found 9"),
        (
            {"a": A[:13], "t": ([0, 1] * 7)[:13]},
            {},
            "expected at least 14 rows for 2 classes, found 13",
        ),
        (
            {"a": A, "t": A, "u": A},
            {"targets": ["t", "u"], "task": "classification"},
            "classification takes one target, found 2",
        ),
        (
            {"a": A, "t": ["x", "y"] * 21},
            {"task": "regression"},
            "column 't', row 1: expected a number, found 'x'; a column of text is left out with --drop",
        ),
        (
            {"a": A, "t": [0.5, float("inf")] * 21},
            {"task": "classification"},
            "column 't', row 2: expected a number within float32, found inf",
        ),
    ],
)
def test_bad_table(
    frame: Write, columns: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    """What stands between data and a fit is said in one line, before anything is written."""
    with pytest.raises(DataError) as caught:
        load.load_table(frame(columns), **{"targets": ["t"], **options})
    assert f"a.csv: {expected}" == str(caught.value)
    assert [Path("a.csv")] == list(Path().iterdir())


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([date(2020, 1, 1), date(2020, 1, 2)], "Date"),
        ([[1], [2]], "List(Int64)"),
        ([b"a", b"b"], "Binary"),
    ],
)
@pytest.mark.parametrize("task", [None, "regression", "classification"])
def test_targets_that_are_no_numbers(
    frame: Write, values: list[Any], dtype: str, task: Task | None
) -> None:
    """Dates, lists and bytes are refused as targets of either task."""
    source = frame({"a": A, "t": values * (N // 2)}, "a.parquet")
    with pytest.raises(DataError) as caught:
        load.load_table(source, targets=["t"], task=task)
    expected = (
        f"a.parquet: column 't': expected numbers, found {dtype}; drop it or write it as numbers"
    )
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("digit", " (did you mean 'digits'?)"), ("Wine", " (did you mean 'wine'?)"), ("houses", "")],
)
def test_unknown_name(source: str, expected: str) -> None:
    """A name that is neither a file nor bundled is answered with what there is."""
    with pytest.raises(DataError) as caught:
        load.load_table(source)
    known = "neither a file nor one of digits, diabetes, wine, breast_cancer, synthetic"
    assert f"{source}: {known}{expected}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("houses", "houses"),
        ("Häuser 2024 (final)", "hauser-2024-final"),
        ("../../etc/passwd", "etc-passwd"),
        ("家", "data"),
        ("--", "data"),
        ("a_b-c", "a_b-c"),
    ],
)
def test_run_name(text: str, expected: str) -> None:
    """A name is safe as a folder, a model's name and in a URL."""
    assert expected == load.run_name(text)


def test_name_of_a_table(frame: Write) -> None:
    """The file's stem, unless another name is given."""
    source = frame({"a": A, "t": A}, "My Houses.csv")
    for name, expected in ((None, "my-houses"), ("X/Y", "x-y")):
        assert expected == load.load_table(source, targets=["t"], name=name).name
