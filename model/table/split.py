"""The split of a table's rows into train, validation and test."""

import numpy as np

from model.table.dataset import IntArray, Table


def split(table: Table, seed: int) -> dict[str, IntArray]:
    """Draw the row indices of train, validation and test, which get 64, 16 and 20 percent.

    The split is random, and stratified by class for a classification.
    """
    from sklearn.model_selection import train_test_split

    labels = table.y if table.classes else None
    rows = np.arange(len(table.x))
    rest, test = train_test_split(rows, test_size=0.2, random_state=seed, stratify=labels)
    labels = table.y[rest] if table.classes else None
    train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=labels)
    return {"train": train, "validation": validation, "test": test}
