"""A served artifact, and the rows to send with their outputs from a float64 reference.

This module does not use the service's code: it reads the manifest as JSON and the weights with
safetensors; the reference and its bounds are those of export/proof/bound.py (docs/numerics.md).
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
"""Indices into ServedModel.rows: the rows of one request, in order."""

TYPICAL_ROWS = 2048
SCALES = (1e-30, 1e-6, 1e-3, 1e3, 1e6, 1e12, 1e17, 1e25)
CONSTANTS = (-0.0, 1e-40, -1e-45, 1e-310, 1 / 3, 16777217.0)
SUM_TOLERANCE = 1e-6
"""Maximum difference between 1 and the sum of a row's probabilities (a few float32 roundings)."""


@dataclass(frozen=True)
class Limits:
    """The servers' limits, small enough for many requests to reach them."""

    body_bytes: int = 1 << 16
    rows: int = 256
    elements: int = 800

    def environment(self) -> dict[str, str]:
        """Return the environment variables that set the limits."""
        return {f"TWOLAYERNET_MAX_{name.upper()}": str(value) for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A served artifact and the rows to send to it."""

    manifest: Mapping[str, Any]
    digest: str
    features: tuple[str, ...]
    classes: tuple[Any, ...]
    """Class names; empty for a regression."""
    rows: FloatArray
    """(rows, in_features): the numbers to send, which the service rounds to float32."""
    reference: Reference
    """The outputs for the rows."""
    overflowing: Float32Array
    """(rows, in_features): finite rows for which every float32 evaluation overflows."""
    max_rows: int
    """Maximum number of rows in one request."""
    limits: Limits

    @property
    def name(self) -> str:
        """The model's name in paths."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The version as a string."""
        return str(self.manifest["version"])

    @property
    def outputs(self) -> dict[str, str]:
        """The graph's outputs in order, with their datatypes in the Open Inference Protocol."""
        if self.classes:
            return {"logits": "FP32", "probabilities": "FP32", "label": "INT64"}
        return {"output": "FP32"}

    @property
    def columns(self) -> int:
        """Number of columns of every output except the label."""
        return len(self.classes) or len(self.manifest["targets"])

    @cached_property
    def zero(self) -> Index:
        """The index of a row of zeros, as an array."""
        return np.flatnonzero(~self.rows.any(axis=1))[:1]

    def shape(self, output: str, index: Index) -> list[int]:
        """Return the shape of an output for some rows."""
        return [len(index)] if output == "label" else [len(index), self.columns]

    def differences(self, index: Index, outputs: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong with outputs for some rows.

        Args:
            index: the rows of the request.
            outputs: nested lists or arrays by name. Their numbers are rounded to float32 before
                the comparison, because a reply has only the digits that float32 needs.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in outputs.items():
            shape = self.shape(name, index)
            try:
                dtype = np.int64 if name == "label" else np.float64
                arrays[name] = np.asarray(values, dtype).reshape(shape)
            except (ValueError, TypeError, OverflowError) as error:
                yield f"{name}: expected numbers of shape {shape}: {error}"
                return
            if name != "label":
                yield from self._wrong_values(name, index, arrays[name])
            elif wrong := list(self._wrong_labels(index, arrays[name])):
                yield from wrong
                return
        if "probabilities" in arrays:
            sums = arrays["probabilities"].sum(axis=1)
            if not (np.abs(sums - 1) <= SUM_TOLERANCE).all():
                yield "probabilities: expected rows whose sum is 1"
        if {"logits", "label"} <= arrays.keys() and len(index):
            chosen = np.take_along_axis(arrays["logits"], arrays["label"][:, None], axis=1)[:, 0]
            if not (chosen == arrays["logits"].max(axis=1)).all():
                yield "label: expected the position of the largest logit"

    def _wrong_values(self, name: str, index: Index, array: NDArray[Any]) -> Iterator[str]:
        values, bounds = self.reference.values[name][index], self.reference.bounds[name][index]
        within = np.abs(array.astype(np.float32).astype(np.float64) - values) <= bounds
        if not within.all():
            i, j = np.argwhere(~within)[0].tolist()
            expected = f"{values[i, j]!r} +- {bounds[i, j]:.2g}"
            yield f"{name}[{i}][{j}]: expected {expected}, found {array[i, j]!r}"

    def _wrong_labels(self, index: Index, labels: NDArray[Any]) -> Iterator[str]:
        accepted = self.reference.accepted
        if accepted is None or not ((labels >= 0) & (labels < self.columns)).all():
            yield f"label: expected indices of {self.columns} classes, found {labels[:8].tolist()}"
        elif not (right := accepted[index, labels]).all():
            i = int(right.argmin())
            expected = np.flatnonzero(accepted[index[i]]).tolist()
            yield f"label[{i}]: expected one of {expected}, found {labels[i]}"


def read_model(artifact: Path, limits: Limits, seed: int = 0) -> ServedModel:
    """Read artifacts/<name>/<version>, draw rows, and compute their reference outputs.

    Raises:
        ValueError: no finite row overflows the network, but some requests need such a row.
    """
    manifest = json.loads((artifact / "manifest.json").read_bytes())
    weights: Mapping[str, Float32Array] = load_file(artifact / "weights.safetensors")
    rows = _draw_rows(manifest["features"], np.random.default_rng(seed))
    outputs = reference(weights, rows.astype(np.float32))
    finite = outputs.in_range
    overflowing = _overflowing_rows(weights)
    if not len(overflowing):
        raise ValueError(f"{artifact}: no finite row is certain to overflow this network")
    return ServedModel(
        manifest=manifest,
        digest=hashlib.sha256((artifact / "SHA256SUMS").read_bytes()).hexdigest(),
        features=tuple(feature["name"] for feature in manifest["features"]),
        classes=tuple(manifest["classes"]),
        rows=rows[finite],
        reference=Reference(
            values={name: values[finite] for name, values in outputs.values.items()},
            bounds={name: bounds[finite] for name, bounds in outputs.bounds.items()},
            accepted=None if outputs.accepted is None else outputs.accepted[finite],
            in_range=finite[finite],
        ),
        overflowing=overflowing,
        max_rows=min(limits.rows, limits.elements // len(manifest["features"])),
        limits=limits,
    )


def _draw_rows(features: Sequence[Mapping[str, Any]], random: np.random.Generator) -> FloatArray:
    """Draw typical rows, and difficult ones: scaled, one-hot, extreme, subnormal and zero."""
    low = np.array([feature["min"] for feature in features])
    high = np.array([feature["max"] for feature in features])
    width = len(features)
    typical = random.uniform(low, high, (TYPICAL_ROWS, width))
    typical[::4] = np.round(typical[::4])
    typical[1::4] = np.round(typical[1::4], 2)
    sample = typical[:64]
    hard = [sample * scale for scale in SCALES]
    hard += [np.eye(width), -np.eye(width), np.stack([low, high]), np.zeros((2, width))]
    hard += [np.full((1, width), value) for value in CONSTANTS]
    hard.append(sample * random.choice([-1.0, 1.0], sample.shape))
    hard.append(np.where(random.random(sample.shape) < 0.5, 0.0, sample))
    return np.concatenate([typical, *hard])


def _overflowing_rows(weights: Mapping[str, Float32Array]) -> Float32Array:
    """Return rows whose outputs overflow float32 in every order of summation.

    For these rows layer 1 stays within float32, and the exact value of an output is beyond it. That
    output is never finite in float32: a partial sum that overflows stays infinite or becomes NaN,
    and otherwise the last addition overflows. (An overflow in layer 1 would not suffice, because
    ReLU turns minus infinity into zero.)
    """
    wide = {name: values.astype(np.float64) for name, values in weights.items()}
    w1, b1, scale = wide["net.linear1.weight"], wide["net.linear1.bias"], wide["scale"]
    # A scale above 1 must not overflow a feature before layer 1, so such features are smaller.
    even = np.minimum(scale, 1)
    size = min(0.9, 0.8 / (np.abs(w1) @ even).max()) * MAX_FLOAT32
    shrink = np.where(scale > 1, 1 / np.maximum(scale, 1), 1)
    rows = (np.sign(w1) * size * shrink).astype(np.float32)
    z = (rows.astype(np.float64) - wide["shift"]) * scale  # (hidden_features, in_features)
    fits = (np.abs(z) @ np.abs(w1).T + np.abs(b1) < 0.9 * MAX_FLOAT32).all(axis=1)
    fits &= (np.abs(z) < MAX_FLOAT32).all(axis=1)
    outputs = np.maximum(z @ w1.T + b1, 0) @ wide["net.linear2.weight"].T
    outputs += wide["net.linear2.bias"]
    if "output_scale" in wide:
        outputs = outputs * wide["output_scale"] + wide["output_shift"]
    return np.asarray(rows[fits & (np.abs(outputs) > 1.1 * MAX_FLOAT32).any(axis=1)])
