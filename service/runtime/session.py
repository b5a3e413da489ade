"""Sessions of ONNX Runtime with the options that the service uses and export verifies."""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime sends telemetry by default; it reads this variable when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import scan_onnx

MAX_ROWS_PER_RUN = 4096
"""Maximum number of rows per run; with more rows, the hidden layer could need gigabytes."""
MAX_BLAS_VALUES = 1 << 12
"""Maximum number of values for which BLAS computes a dot product in one thread."""
Rows = NDArray[np.float32]
"""Raw feature values, float32 of shape (batch, in_features)."""
Outputs = dict[str, NDArray[Any]]
"""Arrays by output name: float32 (batch, out_features), and int64 (batch,) for `label`."""


class Session:
    """An ONNX Runtime session for the bytes of a model.

    Attributes:
        inputs: type and shape by input name.
        outputs: type and shape by output name.
    """

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        *,
        level: str = "ORT_ENABLE_ALL",
        provider: str = "CPUExecutionProvider",
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Load a model; the service leaves the keyword arguments at their defaults.

        Args:
            model: bytes of model.onnx, scanned before ONNX Runtime parses them.
            threads: number of threads per run; one is fastest for a small network.
            level: a member of onnxruntime.GraphOptimizationLevel.
            provider: name of an installed execution provider.
            provider_options: options of the provider.

        Raises:
            ArtifactError: the model is rejected, or the provider does not start.
        """
        scan_onnx(model)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        providers = [(provider, dict(provider_options or {}))]
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers)
        except Exception as error:  # The exceptions of ONNX Runtime have no common base class.
            raise ArtifactError(f"{manifest.MODEL}: ONNX Runtime rejects it: {error}") from None
        # ONNX Runtime falls back to the CPU with only a warning.
        if self._session.get_providers()[0] != provider:
            raise ArtifactError(f"{provider} does not start on this machine")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.inputs = {node.name: (node.type, node.shape) for node in inputs}
        self.outputs = {node.name: (node.type, node.shape) for node in outputs}
        self._names = list(self.outputs)

    def run(self, rows: Rows) -> Outputs:
        """Evaluate rows, float32 of shape (batch, in_features); thread-safe."""
        if len(rows) <= MAX_ROWS_PER_RUN:
            values = self._session.run(self._names, {manifest.INPUT: rows})
        else:
            slices = [
                self._session.run(self._names, {manifest.INPUT: rows[i : i + MAX_ROWS_PER_RUN]})
                for i in range(0, len(rows), MAX_ROWS_PER_RUN)
            ]
            values = [np.concatenate(parts) for parts in zip(*slices, strict=True)]
        return dict(zip(self._names, values, strict=True))


def all_finite(values: NDArray[np.floating]) -> bool:
    """Return whether every value is finite.

    For small arrays one call of BLAS replaces two passes of NumPy: the sum of squares is finite
    only if every value is. The function is vdot() because dot() warns if the sum overflows.
    """
    if values.size <= MAX_BLAS_VALUES and math.isfinite(np.vdot(values, values)):
        return True
    return bool(np.isfinite(values).all())
