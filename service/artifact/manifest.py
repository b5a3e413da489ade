"""The definition of the artifact format: file names, the ONNX signature, and manifest.json.

Both export and the service import it.
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
"""Version of the ONNX file format that was released together with opset 17."""
INPUT = "input"
"""Name of the only input of the ONNX graph."""
OUTPUTS: dict[str, dict[str, str]] = {
    "regression": {"output": "float32"},
    "classification": {"logits": "float32", "probabilities": "float32", "label": "int64"},
}
"""Outputs of the ONNX graph for each task: dtype by name, in the order of the graph."""
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)


class ArtifactError(ValueError):
    """An invalid or damaged artifact; the message names the file and the mismatch."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """An input column, with statistics of the training rows in the unit of the column."""

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
    """Features in the order of the columns of `input`."""
    targets: tuple[str, ...]
    """Names of the target columns."""
    classes: tuple[str | int | float | bool, ...]
    """Classes in the order of the logits, with their JSON types; empty for regression."""
    metrics: Mapping[str, Mapping[str, float]]
    """Metrics of the network, by part (train, validation or test) and metric name."""
    baselines: Mapping[str, Mapping[str, float]]
    """Metrics of a constant and a linear model on the test rows, by model and metric name."""
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
        """Parse manifest.json; raise ArtifactError unless it is valid and has FORMAT_VERSION."""
        try:
            document = strict_json.parse(content)
            version = document["format_version"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST}: not a manifest: {error!r}") from None
        try:
            if type(version) is not int or version != FORMAT_VERSION:
                raise ValueError(f"expected format_version {FORMAT_VERSION}, found {version!r}")
            manifest: Manifest = strict_json.decode(document, cls, "")
            for is_met, requirement in manifest._requirements():
                if not is_met:
                    raise ValueError(f"expected {requirement}")
        except ValueError as error:
            raise ArtifactError(f"{MANIFEST}: {error}") from None
        return manifest

    def _requirements(self) -> Iterator[tuple[object, str]]:
        """Yield each requirement that types cannot express: whether it is met, and its text."""
        is_valid_name = re.fullmatch("[a-z0-9_-]+", self.name)
        yield is_valid_name, f"a name of [a-z0-9_-], found {self.name!r}"
        yield self.version >= 1, f"a version of 1 or more, found {self.version}"
        yield (
            _CREATED.fullmatch(self.created),
            f"created in ISO 8601 and UTC, found {self.created!r}",
        )
        names = [feature.name for feature in self.features]
        yield 0 < len(names) == len(set(names)), "one or more features with unique names"
        for feature in self.features:
            is_ordered = feature.min <= feature.median <= feature.max and feature.std >= 0
            yield is_ordered, f"features: {feature.name!r}: min <= median <= max and std >= 0"
        unique_classes = {(type(value), value) for value in self.classes}
        yield len(unique_classes) == len(self.classes), "unique classes"
        if self.task == "classification":
            yield len(self.targets) == 1, "one target for a classification"
            yield len(self.classes) >= 1, "classes for a classification"
        else:
            yield len(self.targets) >= 1, "one or more targets for a regression"
            yield not self.classes, "no classes for a regression"
        is_complete = set(self.metrics) == {"train", "validation", "test"}
        yield is_complete, "metrics of train, validation and test"
        parts = (*self.metrics.values(), *self.baselines.values())
        is_equal = all(set(part) == set(parts[0]) for part in parts)
        yield is_equal, "the same metrics for every part and baseline"
