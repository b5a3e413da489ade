"""TODO: service.runtime.session."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.artifact.onnx_scan import scan_onnx

MAX_ROWS_PER_RUN = 4096
"""Rows evaluated at a time: the hidden layer of a large batch would take a gigabyte."""
Rows = NDArray[np.float32]
Outputs = dict[str, NDArray[Any]]
"""By output name: float32 (batch, out_features), and for `label` int64 (batch,)."""


class Session:
    """An ONNX Runtime session over the bytes of a model."""

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        *,
        level: str = "ORT_ENABLE_ALL",
        provider: str = "CPUExecutionProvider",
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Load a model; one thread is the fastest for a small network. What serves leaves the keywords as they are.

        Args:
            model: the bytes of model.onnx; they are scanned before ONNX Runtime parses them.
            threads: of one run.
            level: of graph optimisation, a member of onnxruntime.GraphOptimizationLevel.
            provider: an installed execution provider.
            provider_options: of that provider.

        Raises:
            ArtifactError: the scan or ONNX Runtime refuses the model, or the provider does not start here.
        """
        scan_onnx(model)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            chosen = [(provider, dict(provider_options or {}))]
            self._session = onnxruntime.InferenceSession(model, options, chosen)
        except Exception as error:  # its exceptions share no base class
            raise ArtifactError(f"{manifest.MODEL}: ONNX Runtime refuses it: {error}") from None
        if self._session.get_providers()[0] != provider:  # it falls back to the CPU with a warning
            raise ArtifactError(f"{provider} does not start on this machine")
        self.inputs = {
            value.name: (value.type, value.shape) for value in self._session.get_inputs()
        }
        self.outputs = {
            value.name: (value.type, value.shape) for value in self._session.get_outputs()
        }
        self._names = list(self.outputs)

    def run(self, rows: Rows) -> Outputs:
        """Evaluate rows, (batch, in_features) float32; thread-safe."""
        if len(rows) <= MAX_ROWS_PER_RUN:
            values = self._session.run(self._names, {manifest.INPUT: rows})
        else:
            slices = [
                self._session.run(
                    self._names, {manifest.INPUT: rows[start : start + MAX_ROWS_PER_RUN]}
                )
                for start in range(0, len(rows), MAX_ROWS_PER_RUN)
            ]
            values = [np.concatenate(parts) for parts in zip(*slices, strict=True)]
        return dict(zip(self._names, values, strict=True))
