"""An artifact, loaded, checked against its golden rows, and ready to predict.

The session here is the one that serves and the one that export proves: one set of options.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import manifest, strict
from service.manifest import ArtifactError
from service.onnx_scan import scan

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by onnxruntime at its import; on by default there
import onnxruntime

SLICE = 4096
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
        scan(model)
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
        self.inputs = {value.name: (value.type, value.shape) for value in self._session.get_inputs()}
        self.outputs = {value.name: (value.type, value.shape) for value in self._session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, rows: Rows) -> Outputs:
        """Evaluate rows, (batch, in_features) float32; thread-safe."""
        if len(rows) <= SLICE:
            values = self._session.run(self._names, {manifest.INPUT: rows})
        else:
            slices = [
                self._session.run(self._names, {manifest.INPUT: rows[start : start + SLICE]})
                for start in range(0, len(rows), SLICE)
            ]
            values = [np.concatenate(parts) for parts in zip(*slices, strict=True)]
        return dict(zip(self._names, values, strict=True))


class Predictor:
    """A loaded artifact whose hashes and golden rows have been checked on this machine.

        Predictor("artifacts/houses/1").predict(rows)

    Attributes:
        manifest: what the artifact says of itself.
        digest: stands for every byte of it.
        path: artifacts/<name>/<version>.
        example: the body of a request that works, JSON.
        weight_bytes: of all its tensors, with the header of the file that holds them.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, expect_digest: str | None = None) -> None:
        """Load artifacts/<name>/<version>, or the newest version of artifacts/<name>.

        Raises:
            ArtifactError: it is not whole, not the digest expected, or does not reproduce its golden rows.
        """
        artifact = manifest.read(manifest.find(Path(path)))
        if expect_digest not in (None, artifact.digest):
            raise ArtifactError(f"{artifact.path}: expected digest {expect_digest}, found {artifact.digest}")
        self.path, self.digest, self.manifest = artifact.path, artifact.digest, artifact.manifest
        self.example = artifact.files[manifest.EXAMPLE]
        self.weight_bytes = len(artifact.files[manifest.WEIGHTS])
        self._session = Session(artifact.files[manifest.MODEL], threads)
        _check_signature(self._session, self.manifest)
        check_golden(self._session, artifact.files[manifest.GOLDEN])

    def predict(self, rows: Rows) -> Outputs:
        """Evaluate rows, (batch, in_features) float32 of raw feature values.

        Returns:
            regression: output, (batch, out_features) float32 in the targets' units.
            classification: logits and probabilities, (batch, classes) float32, and label, (batch,) int64,
            an index into manifest.classes.
        """
        return self._session.run(rows)


def check_golden(session: Session, content: bytes) -> None:
    """Run the rows of golden.json and hold every answer to its reference and bound.

    Raises:
        ArtifactError: an answer is farther from its float64 reference than rounding explains, or the file does
            not state a reference and a finite bound for every element of every output.
    """
    try:
        golden = strict.parse(content)
        if set(golden) != {"format_version", "input", "outputs"} or golden["format_version"] != manifest.FORMAT_VERSION:
            raise ValueError(f"expected format_version {manifest.FORMAT_VERSION}, input and outputs, and nothing else")
        wide = _floats(golden["input"])
        rows = wide.astype(np.float32)
        width = session.inputs[manifest.INPUT][1][1]
        if rows.shape != (len(rows) or 1, width) or not np.array_equal(rows, wide):
            raise ValueError(f"expected one row of {width} float32 values or more, found shape {rows.shape}")
        answers = session.run(rows)
        if set(golden["outputs"]) != set(answers):
            raise ValueError(f"expected the outputs {', '.join(answers)}, found {', '.join(golden['outputs'])}")
        stated = {name: _allowed(golden["outputs"][name], answers[name]) for name in answers}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{manifest.GOLDEN}: not readable: {error!r}") from None
    for name, allowed in stated.items():
        if not allowed.all():
            row = int(np.argwhere(~allowed)[0][0])
            expected = golden["outputs"][name].get("reference") or golden["outputs"][name]["accepted"]
            raise ArtifactError(
                f"{manifest.GOLDEN}: row {row}: expected {name} {_short(expected[row])}, "
                f"found {_short(answers[name][row].tolist())}: this is not the trained network"
            )


def _allowed(stated: Mapping[str, Any], answer: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for every element of an answer whether golden.json allows it; raise ValueError where it does not say."""
    if answer.dtype == np.int64:
        accepted = [set(labels) for labels in stated["accepted"]]
        return np.array([label in labels for label, labels in zip(answer.tolist(), accepted, strict=True)], bool)
    reference, bound = _floats(stated["reference"]), _floats(stated["bound"])
    if not reference.shape == bound.shape == answer.shape:
        raise ValueError(f"expected references and bounds of shape {answer.shape}")
    return np.asarray(np.abs(answer.astype(np.float64) - reference) <= bound)  # NaN is not <= anything


def _floats(values: Any) -> NDArray[np.float64]:
    """Return what strict.parse gave as (rows, columns), whose numbers it holds to be finite."""
    if not all(type(value) is float for row in values for value in row):
        raise ValueError("expected rows of numbers, each with a point or an exponent")
    return np.array(values, np.float64)


def _check_signature(session: Session, stated: manifest.Manifest) -> None:
    """Raise ArtifactError unless the graph takes and gives what the manifest says."""
    types = {"float32": "tensor(float)", "int64": "tensor(int64)"}
    inputs = {manifest.INPUT: (types["float32"], ["batch", len(stated.features)])}
    outputs: Mapping[str, tuple[str, list[Any]]] = {
        name: (types[dtype], ["batch"] if name == "label" else ["batch", stated.out_features])
        for name, dtype in manifest.OUTPUTS[stated.task].items()
    }
    for what, expected, found in (("inputs", inputs, session.inputs), ("outputs", outputs, session.outputs)):
        if list(found.items()) != list(expected.items()):
            raise ArtifactError(f"{manifest.MODEL}: expected {what} {expected}, found {found}")


def _short(values: Any) -> str:
    text = json.dumps(values)
    return text if len(text) <= 60 else text[:60] + " ..."
