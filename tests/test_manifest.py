"""service.manifest: the artifact's contract."""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from service import manifest
from service.manifest import ArtifactError, Manifest
from tests.conftest import Made


def test_manifest_round_trips(flowers: Made) -> None:
    """Reading and writing manifest.json gives the same bytes."""
    content = (flowers.artifact / manifest.MANIFEST).read_bytes()
    assert content == Manifest.from_json(content).to_json()


def test_digest_is_the_hash_of_the_sums(flowers: Made) -> None:
    """The digest stands for every byte: it is the SHA-256 of SHA256SUMS."""
    expected = hashlib.sha256((flowers.artifact / manifest.SUMS).read_bytes()).hexdigest()
    assert expected == manifest.read(flowers.artifact).digest


def test_sums_are_what_sha256sum_checks(flowers: Made) -> None:
    """The tool that everybody has accepts the file."""
    checked = subprocess.run(["sha256sum", "--strict", "-c", manifest.SUMS], cwd=flowers.artifact, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_classes_keep_their_json_type() -> None:
    """1, 1.0, true and "1" are different classes and stay so."""
    classes = (1, 1.5, True, "1")
    stated = Manifest(
        name="n",
        version=1,
        created="",
        task="classification",
        features=(),
        targets=("t",),
        classes=classes,
        metrics={},
        baselines={},
        training={},
        proof={},
    )
    read = Manifest.from_json(stated.to_json()).classes
    assert [(type(value), value) for value in classes] == [(type(value), value) for value in read]


@pytest.mark.parametrize("name", sorted({*manifest.FILES, manifest.SUMS}))
def test_every_file_is_needed(artifact: Path, name: str) -> None:
    """An artifact without any one of its files is refused, and the file is named."""
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=re.escape(f"{name} is missing")):
        manifest.read(artifact)


@pytest.mark.parametrize("name", sorted(manifest.FILES))
def test_every_byte_counts(artifact: Path, name: str) -> None:
    """One flipped bit in the middle of any file is refused, and the file is named."""
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    with pytest.raises(
        ArtifactError, match=f"{re.escape(name)}: expected SHA-256 [0-9a-f]{{64}}, found [0-9a-f]{{64}}"
    ):
        manifest.read(artifact)


def test_extra_file_is_refused(artifact: Path) -> None:
    """Nothing travels with an artifact that its hashes do not cover."""
    (artifact / "extra.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"unexpected file extra\.bin"):
        manifest.read(artifact)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (bytes.upper, "line 1 is not '<64 lower-case hex digits>  <file>'"),
        (lambda sums: sums.replace(b"  ", b" *"), "line 1 is not"),
        (lambda sums: b"".join(reversed(sums.splitlines(keepends=True))), "out of order"),
        (lambda sums: sums + sums.splitlines(keepends=True)[-1], "names a file twice"),
        (lambda sums: sums.rstrip(b"\n"), "SHA256SUMS"),
        (lambda _: b"", "expected SHA-256 (not stated)"),
    ],
    ids=["upper case", "binary mark", "reversed", "twice", "no last newline", "empty"],
)
def test_sums_are_read_byte_strictly(artifact: Path, edit: Callable[[bytes], bytes], message: str) -> None:
    """SHA256SUMS has one right form; every other is refused though `sha256sum -c` may take it."""
    path = artifact / manifest.SUMS
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ArtifactError, match=re.escape(message)):
        manifest.read(artifact)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest: KeyError('format_version')"),
        (b'{"format_version": 2}', "expected format_version 1, found 2"),
        (b'{"format_version": 1}', "manifest.json: 'features'"),
        (b'{"format_version": 1, "features": [{"name": "x"}]}', "missing"),
    ],
)
def test_manifest_that_cannot_be_read(content: bytes, message: str) -> None:
    """A manifest of another form or version ends in one line that says so."""
    with pytest.raises(ArtifactError, match=re.escape(message)):
        Manifest.from_json(content)


def test_newest_version_is_found_by_number(tmp_path: Path) -> None:
    """10 is newer than 9; names that are no version, and folders without hashes, are passed over."""
    for name in ("9", "10", "011", "x", ".tmp-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / manifest.SUMS).touch()
    (tmp_path / "11").mkdir()
    assert [9, 10] == manifest.versions(tmp_path)
    assert tmp_path / "10" == manifest.find(tmp_path)
    assert tmp_path / "9" == manifest.find(tmp_path / "9")


def test_last_published_is_by_time(tmp_path: Path) -> None:
    """The name whose newest version is the youngest, whatever the alphabet says."""
    for name, moment in (("a", 300), ("b", 100), ("c", 200)):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / manifest.SUMS).touch()
        os.utime(tmp_path / name / "1" / manifest.SUMS, (moment, moment))
    assert tmp_path / "a" == manifest.last_published(tmp_path)


def test_nothing_to_find(tmp_path: Path) -> None:
    """Where there is no artifact the message says what to do."""
    with pytest.raises(ArtifactError, match="nothing is published here; export a run first"):
        manifest.last_published(tmp_path)
    with pytest.raises(ArtifactError, match="holds no artifact"):
        manifest.find(tmp_path)
    with pytest.raises(ArtifactError, match="no such folder"):
        manifest.find(tmp_path / "nope")
