"""Tests of service.artifact.storage: hashes are checked, and versions are found."""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.artifact.storage import FILES, MAX_FILE_BYTES, MAX_SUMS_BYTES
from tests.stored import FLOWERS, HOUSES, RETRAINED_FLOWERS, StoredArtifact

Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("stored", "digest"),
    [
        (FLOWERS, "cbefb84e745b4cc5b6fd2d46fef590c5d7b09f05d06c7f3e67edf72ac89831bb"),
        (RETRAINED_FLOWERS, "e0a5b9e17768737ae63646bd6b6d6dec45890b94ee2e37b54b65ea677c5941ef"),
        (HOUSES, "c7c1c3bd1bcce8fa1b5f72935761103515733918ce25af44048ae11194d6f61d"),
    ],
)
def test_digest_is_the_hash_of_the_sums(stored: StoredArtifact, digest: str) -> None:
    """The digest is the SHA-256 of SHA256SUMS, and is fixed; `sha256sum` accepts SHA256SUMS."""
    sums = (stored.artifact / manifest.SUMS).read_bytes()
    assert digest == hashlib.sha256(sums).hexdigest()
    assert digest == storage.read_artifact(stored.artifact).digest
    command = ["sha256sum", "--strict", "-c", manifest.SUMS]
    subprocess.run(command, cwd=stored.artifact, check=True)


def grow(path: Path) -> None:
    """Make a sparse file that is one byte larger than its limit."""
    os.truncate(path, {**MAX_FILE_BYTES, manifest.SUMS: MAX_SUMS_BYTES}[path.name] + 1)


def replace_by_pipe(path: Path) -> None:
    """Replace a file by a pipe; reading from it would block."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "not an artifact, {} is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "{}: expected SHA-256 |newline is"),
        (lambda path: path.symlink_to(path.rename(path.parent.parent / "x")), "{}: expected a reg"),
        (grow, "{}: expected at most "),
        (replace_by_pipe, "{}: expected a regular file, found a pipe"),
        (lambda path: (path.parent / "setup.py").touch(), "unexpected file setup.py"),
    ],
)
@pytest.mark.parametrize("name", sorted(FILES | {manifest.SUMS}))
def test_damage_is_rejected(artifact: Path, name: str, damage: Damage, problem: str) -> None:
    """The error names the file that is missing, changed, linked, oversized or unexpected."""
    damage(artifact / name)
    with pytest.raises(ArtifactError, match=problem.format(name)):
        storage.read_artifact(artifact)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (bytes.upper, "line 1: expected '<64 lower-case hex digits>  <file>', found"),
        (lambda sums: sums.replace(b"  ", b" *"), "line 1: expected"),
        (lambda sums: b"".join(reversed(sums.splitlines(keepends=True))), "the order is wrong"),
        (lambda sums: sums + sums.splitlines(keepends=True)[-1], "a file is listed twice"),
        (lambda _: b"", "README.md: expected SHA-256 (not listed), found "),
        (lambda sums: b"0" * 64 + sums[64:], f"expected SHA-256 {'0' * 64}, found "),
        (lambda sums: sums + b"0" * 64 + b"  ../x\n", "line 10: expected"),
        (lambda sums: sums + b"0" * 64 + b"  ..\n", "line 10: '..' is not a file of the format"),
    ],
)
def test_sums_must_have_the_exact_format(
    artifact: Path, edit: Callable[[bytes], bytes], problem: str
) -> None:
    """Any deviation in SHA256SUMS is rejected, even if `sha256sum -c` accepts the file."""
    path = artifact / manifest.SUMS
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ArtifactError, match=re.escape(problem)):
        storage.read_artifact(artifact)


def test_newest_version_is_the_largest_number(tmp_path: Path) -> None:
    """Version 10 is newer than 9; other names, and folders without SHA256SUMS, are ignored."""
    for name in ("9", "10", "011", "x", ".tmp-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / manifest.SUMS).touch()
    (tmp_path / "11").mkdir()
    assert [9, 10] == storage.list_versions(tmp_path)
    assert [tmp_path / "10", tmp_path / "9"] == storage.candidate_versions(tmp_path)
    assert tmp_path / "10" == storage.find_version(tmp_path)
    assert tmp_path / "9" == storage.find_version(tmp_path / "9")


def publish(folder: Path) -> None:
    """Create a version that list_versions() finds."""
    folder.mkdir(parents=True)
    (folder / manifest.SUMS).touch()


def test_only_artifact_is_the_default(tmp_path: Path) -> None:
    """Folders without a version do not count; two names are refused, whatever their times."""
    publish(tmp_path / "b" / "1")
    publish(tmp_path / ".hidden" / "1")
    (tmp_path / "c").mkdir()
    assert tmp_path / "b" == storage.only_artifact(tmp_path)
    publish(tmp_path / "a" / "1")
    first = tmp_path / "a"
    problem = (
        f"{tmp_path}: expected one artifact, found 'a', 'b'; choose one: serve {first}, "
        f"make serve ARTIFACT={first} or TWOLAYERNET_ARTIFACT={first}"
    )
    with pytest.raises(ArtifactError, match=f"^{re.escape(problem)}$"):
        storage.only_artifact(tmp_path)
    expected = f"expected artifacts/<name> or artifacts/<name>/<version>, such as {first}"
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        storage.find_version(tmp_path)


@pytest.mark.parametrize("name", ["2", "10"])
def test_folder_and_manifest_name_the_same_version(artifact: Path, name: str) -> None:
    """A version in the folder of another version is rejected; a folder such as /model is not."""
    moved = artifact.rename(artifact.parent / name)
    problem = f"{moved}: manifest.json: expected version {name}, the name of the folder, found 1"
    with pytest.raises(ArtifactError, match=f"^{re.escape(problem)}$"):
        storage.read_artifact(moved)
    assert 1 == storage.read_artifact(moved.rename(artifact.parent / "model")).manifest.version


@pytest.mark.parametrize(
    ("call", "name", "problem"),
    [
        (storage.only_artifact, "", "nothing is published here; export a run first"),
        (storage.only_artifact, "x", "nothing is published here"),
        (storage.find_version, "", "holds no artifact; expected artifacts/<name> or artifacts/"),
        (storage.find_version, "x", "x: no such folder; expected artifacts/<name> or artifacts/"),
        (storage.read_artifact, "x", "x: not an artifact: no such folder"),
    ],
)
def test_folder_without_an_artifact(call: Damage, name: str, problem: str, tmp_path: Path) -> None:
    """For a folder without an artifact, the error tells the user what to do."""
    with pytest.raises(ArtifactError, match=re.escape(problem)):
        call(tmp_path / name)
