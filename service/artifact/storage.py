"""Read artifacts from disk, check their hashes, and find versions."""

import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.artifact import manifest
from service.artifact.manifest import SUMS, ArtifactError, Manifest
from tabular.names import quote_names

MEGABYTE = 10**6
MAX_FILE_BYTES = {
    manifest.MANIFEST: 32 * MEGABYTE,
    manifest.MODEL: 1000 * MEGABYTE,
    manifest.TORCHSCRIPT: 1000 * MEGABYTE,
    manifest.WEIGHTS: 1000 * MEGABYTE,
    manifest.GOLDEN: 32 * MEGABYTE,
    manifest.EXAMPLE: 4 * MEGABYTE,
    manifest.CARD: 16 * MEGABYTE,
    manifest.CURVES: 4 * MEGABYTE,
    manifest.PROOF: 4 * MEGABYTE,
}
"""Maximum size of each file in bytes, checked before the file is read."""
FILES = frozenset(MAX_FILE_BYTES)
"""Names of all files of an artifact except SHA256SUMS, which lists exactly these files."""
MAX_SUMS_BYTES = 4096
"""Maximum size of SHA256SUMS in bytes."""
_FILE_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
_VERSION = "[1-9][0-9]*"
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Artifact:
    """The files of an artifact in memory: the bytes that are used are those that were hashed."""

    path: Path
    """Version folder, artifacts/<name>/<version>."""
    digest: str
    """SHA-256 of SHA256SUMS in hexadecimal, which identifies every byte of the artifact."""
    manifest: Manifest
    files: Mapping[str, bytes]
    """Contents by file name, except SHA256SUMS."""


def read_artifact(path: Path) -> Artifact:
    """Read `artifacts/<name>/<version>` and check every file against SHA256SUMS.

    A folder of another form, such as /model, may hold any version.

    Raises:
        ArtifactError: a file is missing, unexpected, not regular, too large, or has another hash,
            or the manifest has another version than the folder.
    """
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not an artifact: no such folder") from None
    if extra := sorted(names - FILES - {SUMS}):
        raise ArtifactError(f"{path}: unexpected file {extra[0]}")
    if missing := sorted((FILES | {SUMS}) - names):
        raise ArtifactError(f"{path}: not an artifact, {missing[0]} is missing")
    sums = _read_file(path / SUMS, MAX_SUMS_BYTES)
    files = {name: _read_file(path / name, MAX_FILE_BYTES[name]) for name in sorted(FILES)}
    if sums != sha256_sums(files):
        raise ArtifactError(f"{path}: {_first_mismatch(sums, files)}")
    description = Manifest.from_json(files[manifest.MANIFEST])
    if re.fullmatch(_VERSION, path.name) and path.name != str(description.version):
        versions = (
            f"expected version {path.name}, the name of the folder, found {description.version}"
        )
        raise ArtifactError(f"{path}: {manifest.MANIFEST}: {versions}")
    return Artifact(path, hashlib.sha256(sums).hexdigest(), description, files)


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of find_version(path); raise ArtifactError for a damaged artifact."""
    return read_artifact(find_version(Path(path))).manifest


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file; reject links, which could leave the artifact, and pipes, which could block."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise ArtifactError(f"{path}: expected a regular file, found {kind}")
    if status.st_size > max_bytes:
        raise ArtifactError(f"{path}: expected at most {max_bytes} bytes, found {status.st_size}")
    return path.read_bytes()


def sha256_sums(files: Mapping[str, bytes]) -> bytes:
    """Return the content of SHA256SUMS: the output of `sha256sum`, sorted by file name."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def list_versions(parent: Path) -> list[int]:
    """Return the version numbers in `artifacts/<name>`, ascending."""
    if not parent.is_dir():
        return []
    names = (entry.name for entry in parent.iterdir() if (entry / SUMS).is_file())
    return sorted(int(name) for name in names if re.fullmatch(_VERSION, name))


def find_version(path: Path) -> Path:
    """Return the first of candidate_versions(path); raise ArtifactError if there is no version."""
    return candidate_versions(path)[0]


def candidate_versions(path: Path) -> list[Path]:
    """Return [path] for a version folder, or the versions in `artifacts/<name>`, newest first.

    Raises:
        ArtifactError: there is no version.
    """
    if (path / SUMS).is_file():
        return [path]
    if versions := list_versions(path):
        return [path / str(version) for version in reversed(versions)]
    problem = "holds no artifact" if path.is_dir() else "no such folder"
    expected = "artifacts/<name> or artifacts/<name>/<version>"
    example = "".join(f", such as {name}" for name in _artifact_folders(path)[:1])
    raise ArtifactError(f"{path}: {problem}; expected {expected}{example}")


def only_artifact(root: Path) -> Path:
    """Return the only published `root/<name>`; raise ArtifactError if there is none, or several."""
    folders = _artifact_folders(root)
    if not folders:
        problem = "nothing is published here; export a run first (python -m export build)"
        raise ArtifactError(f"{root}: {problem}")
    if len(folders) > 1:
        names, first = quote_names([folder.name for folder in folders]), folders[0]
        ways = f"serve {first}, make serve ARTIFACT={first} or TWOLAYERNET_ARTIFACT={first}"
        raise ArtifactError(f"{root}: expected one artifact, found {names}; choose one: {ways}")
    return folders[0]


def _artifact_folders(root: Path) -> list[Path]:
    """Return every `root/<name>` that holds a version, sorted by name."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name[0] != "." and list_versions(path))


def _first_mismatch(sums: bytes, files: Mapping[str, bytes]) -> str:
    digests = {}
    for number, line in enumerate(sums.decode("ascii", "replace").splitlines(), start=1):
        if not (match := _SUM_LINE.fullmatch(line)):
            expected = "'<64 lower-case hex digits>  <file>'"
            return f"{SUMS}: line {number}: expected {expected}, found {line[:100]!r}"
        if match[2] not in files:
            return f"{SUMS}: line {number}: {match[2]!r} is not a file of the format"
        digests[match[2]] = match[1]
    for name in sorted(files):
        digest = hashlib.sha256(files[name]).hexdigest()
        if digests.get(name) != digest:
            return f"{name}: expected SHA-256 {digests.get(name, '(not listed)')}, found {digest}"
    return f"{SUMS}: a file is listed twice, the order is wrong, or the last newline is missing"
