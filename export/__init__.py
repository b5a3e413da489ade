"""Export a run to ONNX and TorchScript, prove both files equal to it, and publish an artifact.

The functions are imported on first use, because torch takes seconds to import.
"""

import importlib
import os
from typing import TYPE_CHECKING

# onnxruntime reads this variable when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from export.errors import ProofError

if TYPE_CHECKING:
    from export.bundle import build
    from export.verification import verify

__all__ = ["ProofError", "build", "verify"]

_MODULES = {"build": "export.bundle", "verify": "export.verification"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
