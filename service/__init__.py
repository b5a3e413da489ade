"""Serve an artifact over HTTP, or predict with it from Python, without torch and onnx.

Example: `service.Predictor("artifacts/houses").predict(rows)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["ArtifactError", "Predictor", "read_manifest"]

if TYPE_CHECKING:
    from service.artifact.manifest import ArtifactError
    from service.artifact.storage import read_manifest
    from service.runtime.predictor import Predictor
else:
    _MODULES = {
        "ArtifactError": "service.artifact.manifest",
        "Predictor": "service.runtime.predictor",
        "read_manifest": "service.artifact.storage",
    }

    def __getattr__(name):
        """Import a public name at its first use, because `import service` must not load NumPy."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
