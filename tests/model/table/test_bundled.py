"""Tests of the bundled data sets of model.table.load."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine

from model.table.dataset import Task
from model.table.load import load_table


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
def test_shape(name: str, rows: int, in_features: int, task: Task, out_features: int) -> None:
    """Each data set has its documented shape, and is the same at every call."""
    table = load_table(name)
    assert (name, task, (rows, in_features)) == (table.name, table.task, table.x.shape)
    assert (in_features, in_features) == (len(table.features), len(table.kinds))
    assert ((rows,) if table.classes else (rows, out_features)) == table.y.shape
    assert out_features == table.out_features
    assert np.array_equal(table.x, load_table(name).x)


def test_values_are_scikit_learns() -> None:
    """Values, targets and class names equal those of scikit-learn."""
    wine, diabetes = load_table("wine"), load_table("diabetes")
    assert np.array_equal(load_wine().data.astype(np.float32), wine.x)
    assert load_wine().target_names.tolist() == list(wine.classes)
    assert np.array_equal(load_wine().target, wine.y)
    assert np.array_equal(load_diabetes(scaled=False).data.astype(np.float32), diabetes.x)
    assert np.array_equal(load_diabetes().target, diabetes.y[:, 0])
