"""The split of a table's rows into train, validation and test."""

from dataclasses import dataclass

import numpy as np

from model.table.dataset import IntArray, Table


@dataclass(frozen=True)
class Split:
    """Disjoint row indices: 64, 16 and 20 percent of the rows."""

    train: IntArray
    validation: IntArray
    test: IntArray


def split(table: Table, seed: int) -> Split:
    """Draw a random split, stratified by class for a classification."""
    from sklearn.model_selection import train_test_split

    labels = table.y if table.classes else None
    rest, test = train_test_split(
        np.arange(len(table.x)), test_size=0.2, random_state=seed, stratify=labels
    )
    labels = table.y[rest] if table.classes else None
    train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=labels)
    return Split(train, validation, test)
