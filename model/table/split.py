"""The split of a table's rows into train, validation and test."""

import numpy as np

from model.table.dataset import IntArray, Table


def split(table: Table, seed: int) -> dict[str, IntArray]:
    """Draw the row indices of train, validation and test, which get 64, 16 and 20 percent.

    The split is random. For a classification it is stratified, and each part has every class that
    has at least three rows.
    """
    from sklearn.model_selection import train_test_split

    labels = table.y if table.classes else None
    rows = np.arange(len(table.x))
    rest, test = train_test_split(rows, test_size=0.2, random_state=seed, stratify=labels)
    labels = table.y[rest] if table.classes else None
    train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=labels)
    parts = {"train": train, "validation": validation, "test": test}
    if table.classes:
        _complete_classes(parts, table.y.astype(np.int64), len(table.classes))
    return parts


def _complete_classes(parts: dict[str, IntArray], labels: IntArray, classes: int) -> None:
    """Move a row to each part that lacks a class, from the part with the most rows of the class."""
    names = list(parts)
    counts = np.stack([np.bincount(labels[rows], minlength=classes) for rows in parts.values()])
    for part, label in np.argwhere(counts == 0):
        donor = int(counts[:, label].argmax())
        source, target = names[donor], names[part]
        position = np.flatnonzero(labels[parts[source]] == label)[-1]
        parts[target] = np.append(parts[target], parts[source][position])
        parts[source] = np.delete(parts[source], position)
        counts[donor, label] -= 1
        counts[part, label] += 1
