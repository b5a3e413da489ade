"""TODO: service.artifact.storage."""

import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.artifact.manifest import (
    CARD,
    CURVES,
    EXAMPLE,
    GOLDEN,
    MANIFEST,
    MODEL,
    PROOF,
    SUMS,
    TORCHSCRIPT,
    WEIGHTS,
    ArtifactError,
    Manifest,
)

MEGABYTE = 10**6
MAX_FILE_BYTES = {
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
FILES = frozenset(MAX_FILE_BYTES)
"""Every file of an artifact but SHA256SUMS, which names these and no others."""
MAX_SUMS_BYTES = 4096
_FILE_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Artifact:
    """The files of an artifact, hashed as they were read, so that what is used is what was checked."""

    path: Path
    digest: str
    """SHA-256 of SHA256SUMS, hexadecimal: it stands for every byte of the artifact."""
    manifest: Manifest
    files: Mapping[str, bytes]


def read_artifact(path: Path) -> Artifact:
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
    sums = _read_file(path / SUMS, MAX_SUMS_BYTES)
    files = {name: _read_file(path / name, MAX_FILE_BYTES[name]) for name in sorted(FILES)}
    if sums != sha256_sums(files):
        raise ArtifactError(f"{path}: {_first_mismatch(sums, files)}")
    manifest = Manifest.from_json(files[MANIFEST])
    return Artifact(path, hashlib.sha256(sums).hexdigest(), manifest, files)


def _read_file(path: Path, limit: int) -> bytes:
    """Read a file of an artifact: a link would lead out of it, and a pipe has no end."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(
            f"{path}: expected a regular file, found {_FILE_KINDS.get(stat.S_IFMT(status.st_mode), 'none')}"
        )
    if status.st_size > limit:
        raise ArtifactError(f"{path}: expected at most {limit} bytes, found {status.st_size}")
    return path.read_bytes()


def sha256_sums(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of SHA256SUMS for these files, as `sha256sum` writes them, sorted by name."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def list_versions(parent: Path) -> list[int]:
    """List the versions in `artifacts/<name>`, ascending."""
    if not parent.is_dir():
        return []
    names = (entry.name for entry in parent.iterdir() if (entry / SUMS).is_file())
    return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name))


def find_version(path: Path) -> Path:
    """Resolve `artifacts/<name>/<version>`, or `artifacts/<name>` to its newest version.

    Raises:
        ArtifactError: there is none.
    """
    return candidate_versions(path)[0]


def candidate_versions(path: Path) -> list[Path]:
    """List `artifacts/<name>/<version>` alone, or every version of `artifacts/<name>`, the newest first.

    Raises:
        ArtifactError: there is none.
    """
    if (path / SUMS).is_file():
        return [path]
    if found := list_versions(path):
        return [path / str(version) for version in reversed(found)]
    what = "holds no artifact" if path.is_dir() else "no such folder"
    raise ArtifactError(f"{path}: {what}; expected artifacts/<name> or artifacts/<name>/<version>")


def last_published(root: Path) -> Path:
    """Return the folder `root/<name>` whose newest version was published last.

    Raises:
        ArtifactError: nothing is published there.
    """
    names = [parent for parent in root.iterdir() if list_versions(parent)] if root.is_dir() else []
    if not names:
        raise ArtifactError(
            f"{root}: nothing is published here; export a run first (python -m export build)"
        )
    return max(names, key=lambda parent: (find_version(parent) / SUMS).stat().st_mtime_ns)


def _first_mismatch(sums: bytes, files: Mapping[str, bytes]) -> str:
    """Say the first way in which SHA256SUMS and the files differ."""
    stated = {}
    for number, line in enumerate(sums.decode("ascii", "replace").splitlines(), start=1):
        if not (match := _SUM_LINE.fullmatch(line)):
            return (
                f"{SUMS}: line {number} is not '<64 lower-case hex digits>  <file>': {line[:100]!r}"
            )
        if match[2] not in files:
            return f"{SUMS}: line {number} names {match[2]!r}, which is no file of the format"
        stated[match[2]] = match[1]
    for name in sorted(files):
        found = hashlib.sha256(files[name]).hexdigest()
        if stated.get(name) != found:
            return f"{name}: expected SHA-256 {stated.get(name, '(not stated)')}, found {found}"
    return f"{SUMS}: names a file twice, or out of order, or ends without a newline"
