"""The artifact's contract: which files, what manifest.json says, and how hashes are checked.

This is the one definition of the format. The producer (export) imports it from its consumer, and it
needs the standard library alone, so anybody can read it beside docs/artifact.md.
"""

import dataclasses
import hashlib
import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service import strict

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
MEGABYTE = 10**6
LIMITS = {
    MANIFEST: 32 * MEGABYTE,
    MODEL: 1000 * MEGABYTE,
    TORCHSCRIPT: 1000 * MEGABYTE,
    WEIGHTS: 1000 * MEGABYTE,
    GOLDEN: 32 * MEGABYTE,
    EXAMPLE: 4 * MEGABYTE,
    CARD: 16 * MEGABYTE,
    CURVES: 4 * MEGABYTE,
    PROOF: 4 * MEGABYTE,
}
"""The most bytes that a file may have, by name; looked at before it is read."""
FILES = frozenset(LIMITS)
"""Every file of an artifact but SHA256SUMS, which names these and no others."""

OPSET = 17
IR_VERSION = 8
"""What opset 17 came with: the oldest runtimes that know the one read the other."""
INPUT = "input"
OUTPUTS: dict[str, dict[str, str]] = {
    "regression": {"output": "float32"},
    "classification": {"logits": "float32", "probabilities": "float32", "label": "int64"},
}
"""The outputs of the ONNX graph by task: name and dtype, in their order."""

SUMS_LIMIT = 4096
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]+)")


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
        document = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        return document.encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read the bytes of manifest.json.

        Raises:
            ArtifactError: they are not a manifest of this format version.
        """
        try:
            document = strict.parse(content)
            found = document["format_version"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST}: not a manifest: {error!r}") from None
        if type(found) is not int or found != FORMAT_VERSION:
            raise ArtifactError(f"{MANIFEST}: expected format_version {FORMAT_VERSION}, found {found!r}")
        try:
            manifest: Manifest = strict.typed(document, cls, "")
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
        yield f"a name of [a-z0-9_-], found {self.name!r}", re.fullmatch("[a-z0-9_-]+", self.name) is not None
        yield f"a version of 1 or more, found {self.version}", self.version >= 1
        yield f"created as ISO 8601 in UTC, found {self.created!r}", _CREATED.fullmatch(self.created) is not None
        yield "features, each of its own name", 0 < len(names) == len(set(names))
        for feature in self.features:
            ordered = feature.min <= feature.median <= feature.max and feature.std >= 0
            yield f"features: {feature.name!r}: min <= median <= max and std >= 0", ordered
        yield "targets: one, or several of a regression", 0 < len(self.targets) < (2 if classifies else math.inf)
        distinct = {(type(value), value) for value in self.classes}
        yield "classes, each once, of a classification alone", len(distinct) == len(self.classes) >= classifies
        yield "no classes of a regression", classifies or not self.classes
        yield "metrics of train, validation and test", set(self.metrics) == {"train", "validation", "test"}
        yield "the same metrics everywhere", all(set(part) == set(parts[0]) for part in parts)


@dataclass(frozen=True)
class Artifact:
    """The files of an artifact, hashed as they were read, so that what is used is what was checked."""

    path: Path
    digest: str
    """SHA-256 of SHA256SUMS, hexadecimal: it stands for every byte of the artifact."""
    manifest: Manifest
    files: Mapping[str, bytes]


def read(path: Path) -> Artifact:
    """Read an artifact, `artifacts/<name>/<version>`, and check every file against SHA256SUMS.

    Raises:
        ArtifactError: a file is missing, extra, no regular file, too large, or not what its hash says.
    """
    try:
        present = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not an artifact: no such folder") from None
    if extra := sorted(present - FILES - {SUMS}):
        raise ArtifactError(f"{path}: unexpected file {extra[0]}")
    if missing := sorted((FILES | {SUMS}) - present):
        raise ArtifactError(f"{path}: not an artifact, {missing[0]} is missing")
    sums = _content(path / SUMS, SUMS_LIMIT)
    files = {name: _content(path / name, LIMITS[name]) for name in sorted(FILES)}
    if sums != sums_of(files):
        raise ArtifactError(f"{path}: {_mismatch(sums, files)}")
    manifest = Manifest.from_json(files[MANIFEST])
    return Artifact(path, hashlib.sha256(sums).hexdigest(), manifest, files)


def _content(path: Path, limit: int) -> bytes:
    """Read a file of an artifact: a link would lead out of it, and a pipe has no end."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path}: expected a regular file, found {_KINDS.get(stat.S_IFMT(status.st_mode), 'none')}")
    if status.st_size > limit:
        raise ArtifactError(f"{path}: expected at most {limit} bytes, found {status.st_size}")
    return path.read_bytes()


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of SHA256SUMS for these files, as `sha256sum` writes them, sorted by name."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def versions(parent: Path) -> list[int]:
    """List the versions in `artifacts/<name>`, ascending."""
    if not parent.is_dir():
        return []
    names = (entry.name for entry in parent.iterdir() if (entry / SUMS).is_file())
    return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name))


def find(path: Path) -> Path:
    """Resolve `artifacts/<name>/<version>`, or `artifacts/<name>` to its newest version.

    Raises:
        ArtifactError: there is none.
    """
    return candidates(path)[0]


def candidates(path: Path) -> list[Path]:
    """List `artifacts/<name>/<version>` alone, or every version of `artifacts/<name>`, the newest first.

    Raises:
        ArtifactError: there is none.
    """
    if (path / SUMS).is_file():
        return [path]
    if found := versions(path):
        return [path / str(version) for version in reversed(found)]
    what = "holds no artifact" if path.is_dir() else "no such folder"
    raise ArtifactError(f"{path}: {what}; expected artifacts/<name> or artifacts/<name>/<version>")


def last_published(root: Path) -> Path:
    """Return the folder `root/<name>` whose newest version was published last.

    Raises:
        ArtifactError: nothing is published there.
    """
    names = [parent for parent in root.iterdir() if versions(parent)] if root.is_dir() else []
    if not names:
        raise ArtifactError(f"{root}: nothing is published here; export a run first (python -m export build)")
    return max(names, key=lambda parent: (find(parent) / SUMS).stat().st_mtime_ns)


def _mismatch(sums: bytes, files: Mapping[str, bytes]) -> str:
    """Say the first way in which SHA256SUMS and the files differ."""
    stated = {}
    for number, line in enumerate(sums.decode("ascii", "replace").splitlines(), start=1):
        if not (match := _SUM_LINE.fullmatch(line)):
            return f"{SUMS}: line {number} is not '<64 lower-case hex digits>  <file>': {line[:100]!r}"
        if match[2] not in files:
            return f"{SUMS}: line {number} names {match[2]!r}, which is no file of the format"
        stated[match[2]] = match[1]
    for name in sorted(files):
        found = hashlib.sha256(files[name]).hexdigest()
        if stated.get(name) != found:
            return f"{name}: expected SHA-256 {stated.get(name, '(not stated)')}, found {found}"
    return f"{SUMS}: names a file twice, or out of order, or ends without a newline"
