"""Fit a TwoLayerNet to a table of numbers: the public Python API of training.

Public names are imported on first use: torch takes seconds to import, and `--help` must be quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.config import TrainConfig
    from model.errors import DataError
    from model.run import Run, load_run
    from model.table.load import load_table
    from model.training import train

__all__ = ["DataError", "Run", "TrainConfig", "load_run", "load_table", "train"]

MODULES = {
    "DataError": "model.errors",
    "Run": "model.run",
    "TrainConfig": "model.config",
    "load_run": "model.run",
    "load_table": "model.table.load",
    "train": "model.training",
}
"""Defining module of each public name."""


def __getattr__(name: str) -> object:
    """Import a public name on its first use."""
    if name not in MODULES:
        raise AttributeError(f"module 'model' has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)
