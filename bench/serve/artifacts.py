"""Artifacts of given widths, of random rows, made by the project's own commands."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS = 640
CLASSES = 10


def made(name: str, folder: Path) -> Path:
    """Return <folder>/artifacts/<name>/1, made if it is not there.

    Args:
        name: digits, or net-<in_features>-<hidden_features>.
        folder: of the runs and artifacts.
    """
    path = folder / "artifacts" / name / "1"
    if path.exists():
        return path
    print(f"making {name} ...", file=sys.stderr, flush=True)
    train = ["model", "train", "--epochs", "1", "--runs", str(folder / "runs")]
    if name != "digits":
        in_features, hidden_features = name.removeprefix("net-").split("-")
        random, data = np.random.default_rng(0), folder / f"{name}.npz"
        x = random.standard_normal((ROWS, int(in_features)), np.float32)
        np.savez(data, x=x, y=random.integers(CLASSES, size=ROWS))
        train += ["--data", str(data), "--hidden", hidden_features]
    for command in (
        train,
        ["export", "build", "--runs", str(folder / "runs"), "--artifacts", str(path.parents[1])],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return path


def rows_for(name: str, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return rows for an artifact, (count, in_features): of its data set, or as random as what it was made of."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return np.resize(load_digits().data.astype(np.float32), (count, 64))
    width = int(name.removeprefix("net-").split("-")[0])
    return np.random.default_rng(1).standard_normal((count, width), np.float32)
