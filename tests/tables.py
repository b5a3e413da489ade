"""Two small random tables as CSV files: a classification and a regression."""

from pathlib import Path

import numpy as np

CLASSES = ("setosa", "versi, color", "vïrginica")


def write_flowers(path: Path, rows: int = 150) -> Path:
    """Write a table of three classes with a byte-order mark, `;`, quotes and an id column."""
    rng = np.random.default_rng(7)
    labels = np.arange(rows) % 3
    x = rng.normal(size=(rows, 4)) + labels[:, None] * np.array([2.0, -1.5, 0.5, 3.0])
    lines = ['id;"petal, length";sepal width;größe;year;species']
    for i, (a, b, c, d) in enumerate(x):
        lines.append(f'{i};{a:.4f};{b:.4f};{c:.4f};{2000 + round(d)};"{CLASSES[labels[i]]}"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def write_houses(path: Path, rows: int = 120) -> Path:
    """Write a table with a constant column and a numeric target."""
    rng = np.random.default_rng(8)
    size, age = rng.uniform(20, 200, rows), rng.integers(0, 100, rows)
    price = 3000 * size - 500 * age + rng.normal(scale=10_000, size=rows)
    lines = ["size m²,age,constant,price €"]
    lines += [f"{s:.2f},{a},0.1,{p:.2f}" for s, a, p in zip(size, age, price, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
