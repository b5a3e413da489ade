"""The artifact format: the names of its files, the ONNX signature, and manifest.json.

It is the only definition of the format; export imports it too.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.artifact import strict_json

FORMAT_VERSION = 1
SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TORCHSCRIPT = "model.torchscript.pt"
WEIGHTS = "weights.safetensors"
GOLDEN = "golden.json"
EXAMPLE = "example.json"
CARD = "README.md"
CURVES = "curves.png"
PROOF = "proof.png"
OPSET = 17
"""ONNX operator set of model.onnx."""
IR_VERSION = 8
"""ONNX file format version, released with opset 17: any runtime that reads one reads the other."""
INPUT = "input"
"""Name of the only input of the ONNX graph."""
OUTPUTS: dict[str, dict[str, str]] = {
    "regression": {"output": "float32"},
    "classification": {"logits": "float32", "probabilities": "float32", "label": "int64"},
}
"""Ordered outputs of the ONNX graph for each task: name and dtype."""
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)


class ArtifactError(ValueError):
    """An artifact that cannot be read or trusted; the message names the file and the mismatch."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input column; its statistics are those of the training rows, in the column's own unit."""

    name: str
    kind: Literal["float", "integer", "boolean"]
    min: float
    max: float
    mean: float
    median: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of manifest.json."""

    format_version: int = FORMAT_VERSION
    name: str
    version: int
    created: str
    """Time of export, ISO 8601 in UTC."""
    task: Literal["regression", "classification"]
    features: tuple[Feature, ...]
    """Features in the order of the input columns."""
    targets: tuple[str, ...]
    """Names of the target columns."""
    classes: tuple[str | int | float | bool, ...]
    """Classes in the order of the logits, in the target's JSON type; empty for regression."""
    metrics: Mapping[str, Mapping[str, float]]
    """Metrics of the network by part (train, validation, test) and metric name."""
    baselines: Mapping[str, Mapping[str, float]]
    """Metrics of a constant and of a linear model on the test part, by model and metric name."""
    training: Mapping[str, Any]
    """Training configuration, device and library versions."""
    proof: Mapping[str, Any]
    """Results of the checks that export ran."""

    @property
    def out_features(self) -> int:
        """Number of columns of `output`, or of `logits` and `probabilities`."""
        return len(self.classes) or len(self.targets)

    def to_json(self) -> bytes:
        """Return the bytes of manifest.json."""
        members = dataclasses.asdict(self)
        text = json.dumps(members, indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Parse manifest.json; raise ArtifactError unless it is valid and of this version."""
        try:
            document = strict_json.parse(content)
            version = document["format_version"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST}: not a manifest: {error!r}") from None
        if type(version) is not int or version != FORMAT_VERSION:
            expected = f"format_version {FORMAT_VERSION}"
            raise ArtifactError(f"{MANIFEST}: expected {expected}, found {version!r}")
        try:
            manifest: Manifest = strict_json.decode(document, cls, "")
        except ValueError as error:
            raise ArtifactError(f"{MANIFEST}: {error}") from None
        for satisfied, requirement in manifest._requirements():
            if not satisfied:
                raise ArtifactError(f"{MANIFEST}: expected {requirement}")
        return manifest

    def _requirements(self) -> Iterator[tuple[bool, str]]:
        """Yield the requirements that types cannot express: whether each is satisfied, its text."""
        valid_name = re.fullmatch("[a-z0-9_-]+", self.name) is not None
        yield valid_name, f"a name of [a-z0-9_-], found {self.name!r}"
        yield self.version >= 1, f"a version of 1 or more, found {self.version}"
        valid_time = _CREATED.fullmatch(self.created) is not None
        yield valid_time, f"created in ISO 8601 and UTC, found {self.created!r}"
        names = [feature.name for feature in self.features]
        yield 0 < len(names) == len(set(names)), "one or more features with unique names"
        for feature in self.features:
            ordered = feature.min <= feature.median <= feature.max and feature.std >= 0
            yield ordered, f"features: {feature.name!r}: min <= median <= max and std >= 0"
        distinct = {(type(value), value) for value in self.classes}
        yield len(distinct) == len(self.classes), "unique classes"
        if self.task == "classification":
            yield len(self.targets) == 1, "one target for a classification"
            yield len(self.classes) >= 1, "classes for a classification"
        else:
            yield len(self.targets) >= 1, "one or more targets for a regression"
            yield not self.classes, "no classes for a regression"
        complete = set(self.metrics) == {"train", "validation", "test"}
        yield complete, "metrics of train, validation and test"
        parts = (*self.metrics.values(), *self.baselines.values())
        equal = all(set(part) == set(parts[0]) for part in parts)
        yield equal, "the same metrics for every part and baseline"
