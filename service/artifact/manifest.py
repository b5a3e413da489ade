"""The artifact's contract: which files, what manifest.json says, and how hashes are checked.

This is the one definition of the format. The producer (export) imports it from its consumer, and it
needs the standard library alone, so anybody can read it beside docs/artifact.md.
"""

import dataclasses
import json
import math
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
IR_VERSION = 8
"""What opset 17 came with: the oldest runtimes that know the one read the other."""
INPUT = "input"
OUTPUTS: dict[str, dict[str, str]] = {
    "regression": {"output": "float32"},
    "classification": {"logits": "float32", "probabilities": "float32", "label": "int64"},
}
"""The outputs of the ONNX graph by task: name and dtype, in their order."""
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)


class ArtifactError(ValueError):
    """An artifact that cannot be trusted or read; the message says which file, expected and found."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of the input; the figures are those of the training rows, in the column's own units."""

    name: str
    kind: Literal["float", "integer", "boolean"]
    min: float
    max: float
    mean: float
    median: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds."""

    format_version: int = FORMAT_VERSION
    name: str
    version: int
    created: str
    """ISO 8601, UTC."""
    task: Literal["regression", "classification"]
    features: tuple[Feature, ...]
    """In the order of the input's columns."""
    targets: tuple[str, ...]
    classes: tuple[str | int | float | bool, ...]
    """In the order of the logits' columns, in the column's own JSON type; empty for regression."""
    metrics: Mapping[str, Mapping[str, float]]
    """By part (train, validation, test), then by metric."""
    baselines: Mapping[str, Mapping[str, float]]
    """The same metrics on the test rows, of a constant answer and of a linear model."""
    training: Mapping[str, Any]
    """The configuration of the fit, its device and versions."""
    proof: Mapping[str, Any]
    """What export checked, with the figures it found."""

    @property
    def out_features(self) -> int:
        """Columns of `output`, or of `logits` and `probabilities`."""
        return len(self.classes) or len(self.targets)

    def to_json(self) -> bytes:
        """Return the bytes of manifest.json."""
        document = json.dumps(
            dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False
        )
        return document.encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read the bytes of manifest.json.

        Raises:
            ArtifactError: they are not a manifest of this format version.
        """
        try:
            document = strict_json.parse(content)
            found = document["format_version"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST}: not a manifest: {error!r}") from None
        if type(found) is not int or found != FORMAT_VERSION:
            raise ArtifactError(
                f"{MANIFEST}: expected format_version {FORMAT_VERSION}, found {found!r}"
            )
        try:
            manifest: Manifest = strict_json.decode(document, cls, "")
        except ValueError as error:
            raise ArtifactError(f"{MANIFEST}: {error}") from None
        for what, holds in manifest._rules():
            if not holds:
                raise ArtifactError(f"{MANIFEST}: expected {what}")
        return manifest

    def _rules(self) -> Iterator[tuple[str, bool]]:
        """Yield what the types leave open, and whether it holds."""
        names = [feature.name for feature in self.features]
        classifies = self.task == "classification"
        parts = (*self.metrics.values(), *self.baselines.values())
        yield (
            f"a name of [a-z0-9_-], found {self.name!r}",
            re.fullmatch("[a-z0-9_-]+", self.name) is not None,
        )
        yield f"a version of 1 or more, found {self.version}", self.version >= 1
        yield (
            f"created as ISO 8601 in UTC, found {self.created!r}",
            _CREATED.fullmatch(self.created) is not None,
        )
        yield "features, each of its own name", 0 < len(names) == len(set(names))
        for feature in self.features:
            ordered = feature.min <= feature.median <= feature.max and feature.std >= 0
            yield f"features: {feature.name!r}: min <= median <= max and std >= 0", ordered
        yield (
            "targets: one, or several of a regression",
            0 < len(self.targets) < (2 if classifies else math.inf),
        )
        distinct = {(type(value), value) for value in self.classes}
        yield (
            "classes, each once, of a classification alone",
            len(distinct) == len(self.classes) >= classifies,
        )
        yield "no classes of a regression", classifies or not self.classes
        yield (
            "metrics of train, validation and test",
            set(self.metrics) == {"train", "validation", "test"},
        )
        yield "the same metrics everywhere", all(set(part) == set(parts[0]) for part in parts)
