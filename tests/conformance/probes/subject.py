"""What is asked: an artifact as its documentation describes it, and rows whose float64 answers are known.

Nothing here is the service's: the manifest is read as JSON, the weights by the safetensors library, and the answers and
their bounds are those of the proof (export/bounds.py, docs/numerics.md).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from export.proof.bound import MAX_FLOAT32, Float32Array, FloatArray, Reference, reference

Index = NDArray[np.intp]
"""Which of a subject's rows a request asks for, in order."""

REAL_ROWS = 2048
SCALES = (1e-30, 1e-6, 1e-3, 1e3, 1e6, 1e12, 1e17, 1e25)
SUM_TOLERANCE = 1e-6
"""Of a row's probabilities: some roundings of numbers up to 1."""


@dataclass(frozen=True)
class Limits:
    """The caps that the servers are started with: small, so that they are reached often."""

    body_bytes: int = 1 << 16
    rows: int = 256
    elements: int = 800

    def environment(self) -> dict[str, str]:
        """Return the variables that set them."""
        return {
            "TWOLAYERNET_MAX_BODY_BYTES": str(self.body_bytes),
            "TWOLAYERNET_MAX_ROWS": str(self.rows),
            "TWOLAYERNET_MAX_ELEMENTS": str(self.elements),
        }


@dataclass(frozen=True, eq=False)
class Subject:
    """An artifact that is served."""

    manifest: Mapping[str, Any]
    digest: str
    features: tuple[str, ...]
    classes: tuple[Any, ...]
    """Empty for a regression."""
    wide: FloatArray
    """(rows, in_features): the numbers that requests carry; the network sees their float32."""
    answers: Reference
    """To the rows."""
    beyond: Float32Array
    """(rows, in_features): finite rows to which every float32 evaluation answers with an infinity or NaN."""
    most_rows: int
    """In one request."""
    limits: Limits

    @property
    def name(self) -> str:
        """The model's, in paths."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """As replies write it."""
        return str(self.manifest["version"])

    @property
    def outputs(self) -> dict[str, str]:
        """The graph's outputs in their order, and their datatypes in the Open Inference Protocol."""
        return (
            {"logits": "FP32", "probabilities": "FP32", "label": "INT64"}
            if self.classes
            else {"output": "FP32"}
        )

    @property
    def columns(self) -> int:
        """Of every output but the label, which has none."""
        return len(self.classes) or len(self.manifest["targets"])

    @cached_property
    def zero(self) -> Index:
        """A row of zeros."""
        return np.flatnonzero(~self.wide.any(axis=1))[:1]

    def faults(self, index: Index, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong with outputs, by name, as the answers to some rows.

        Args:
            index: the rows that were asked for.
            found: nested lists or arrays; the numbers are float32's, so they are rounded to it before they are judged.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in found.items():
            expected = (len(index),) if name == "label" else (len(index), self.columns)
            try:
                array = np.asarray(values, np.int64 if name == "label" else np.float64).reshape(
                    expected
                )
            except (ValueError, TypeError, OverflowError) as error:
                yield f"{name}: expected numbers of shape {expected}: {error}"
                return
            arrays[name] = array
            if name == "label":
                if wrong := list(self._wrong_labels(index, array)):
                    yield from wrong
                    return
                continue
            away = np.abs(
                array.astype(np.float32).astype(np.float64) - self.answers.values[name][index]
            )
            within = away <= self.answers.bounds[name][index]
            if not within.all():
                i, j = np.argwhere(~within)[0].tolist()
                near = f"{self.answers.values[name][index[i], j]!r} +- {self.answers.bounds[name][index[i], j]:.2g}"
                yield f"{name}[{i}][{j}]: expected {near}, found {array[i, j]!r}"
        if (
            "probabilities" in arrays
            and not (np.abs(arrays["probabilities"].sum(axis=1) - 1) <= SUM_TOLERANCE).all()
        ):
            yield "probabilities: expected rows whose sum is 1"
        if {"logits", "label"} <= arrays.keys() and len(index):
            chosen = np.take_along_axis(arrays["logits"], arrays["label"][:, None], axis=1)[:, 0]
            if not (chosen == arrays["logits"].max(axis=1)).all():
                yield "label: expected the largest of the logits beside it"

    def _wrong_labels(self, index: Index, labels: NDArray[Any]) -> Iterator[str]:
        accepted = self.answers.accepted
        if accepted is None or not ((labels >= 0) & (labels < self.columns)).all():
            yield f"label: expected indexes of {self.columns} classes, found {labels[:8].tolist()}"
        elif not (right := accepted[index, labels]).all():
            i = int(right.argmin())
            yield f"label[{i}]: expected one of {np.flatnonzero(accepted[index[i]]).tolist()}, found {labels[i]}"


def read(artifact: Path, limits: Limits, seed: int = 0) -> Subject:
    """Read artifacts/<name>/<version>, draw rows, and answer them.

    Raises:
        ValueError: no finite row is beyond the network, so what the service does then could not be asked.
    """
    manifest = json.loads((artifact / "manifest.json").read_bytes())
    weights: Mapping[str, Float32Array] = load_file(artifact / "weights.safetensors")
    wide = _rows(manifest["features"], np.random.default_rng(seed))
    answers = reference(weights, wide.astype(np.float32))
    kept = answers.in_range
    beyond = _beyond(weights)
    if not len(beyond):
        raise ValueError(f"{artifact}: no finite row is certain to overflow this network")
    return Subject(
        manifest=manifest,
        digest=hashlib.sha256((artifact / "SHA256SUMS").read_bytes()).hexdigest(),
        features=tuple(feature["name"] for feature in manifest["features"]),
        classes=tuple(manifest["classes"]),
        wide=wide[kept],
        answers=Reference(
            values={name: values[kept] for name, values in answers.values.items()},
            bounds={name: bounds[kept] for name, bounds in answers.bounds.items()},
            accepted=None if answers.accepted is None else answers.accepted[kept],
            in_range=kept[kept],
        ),
        beyond=beyond,
        most_rows=min(limits.rows, limits.elements // len(manifest["features"])),
        limits=limits,
    )


def _rows(features: Sequence[Mapping[str, Any]], random: np.random.Generator) -> FloatArray:
    """Draw rows as a training table has them, and rows that are hard: scaled, one-hot, extreme, subnormal, zero."""
    low = np.array([feature["min"] for feature in features])
    high = np.array([feature["max"] for feature in features])
    real = random.uniform(low, high, (REAL_ROWS, len(features)))
    real[::4] = np.round(real[::4])
    real[1::4] = np.round(real[1::4], 2)
    one_hot = np.eye(len(features))
    few = real[:64]
    hard = [few * scale for scale in SCALES] + [
        one_hot,
        -one_hot,
        np.stack([low, high]),
        np.zeros((2, len(features))),
    ]
    hard += [
        np.full((1, len(features)), value)
        for value in (-0.0, 1e-40, -1e-45, 1e-310, 1 / 3, 16777217.0)
    ]
    signs = random.choice([-1.0, 1.0], few.shape)
    return np.concatenate(
        [real, *hard, few * signs, np.where(random.random(few.shape) < 0.5, 0.0, few)]
    )


def _beyond(weights: Mapping[str, Float32Array]) -> Float32Array:
    """Return rows to which the answer overflows float32 in whatever order its sums are added up.

    Layer 1 stays within float32, and an output does not. A sum whose true value is more than float32 holds never comes
    out finite: either a partial sum overflows, and what is infinite or NaN stays so, or none does, and then the last
    addition must. (In layer 1 that would not do: ReLU makes zero of minus infinity.)
    """
    wide = {name: values.astype(np.float64) for name, values in weights.items()}
    w1, b1, scale = wide["net.linear1.weight"], wide["net.linear1.bias"], wide["scale"]
    even = np.minimum(
        scale, 1
    )  # of each scaled feature, beside the others: none may overflow before layer 1
    size = min(0.9, 0.8 / (np.abs(w1) @ even).max()) * MAX_FLOAT32
    rows = (np.sign(w1) * size * np.where(scale > 1, 1 / np.maximum(scale, 1), 1)).astype(
        np.float32
    )
    z = (rows.astype(np.float64) - wide["shift"]) * scale  # (hidden_features, in_features)
    fits = (np.abs(z) @ np.abs(w1).T + np.abs(b1) < 0.9 * MAX_FLOAT32).all(axis=1) & (
        np.abs(z) < MAX_FLOAT32
    ).all(axis=1)
    answers = np.maximum(z @ w1.T + b1, 0) @ wide["net.linear2.weight"].T + wide["net.linear2.bias"]
    if "output_scale" in wide:
        answers = answers * wide["output_scale"] + wide["output_shift"]
    return np.asarray(rows[fits & (np.abs(answers) > 1.1 * MAX_FLOAT32).any(axis=1)])
