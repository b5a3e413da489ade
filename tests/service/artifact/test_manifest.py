"""service.manifest: the artifact's contract."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError, Feature, Manifest
from tests.serving import ROOT
from tests.stored import StoredArtifact


def test_manifest_round_trips(flowers: StoredArtifact) -> None:
    """Reading and writing manifest.json gives the same bytes."""
    content = (flowers.artifact / manifest.MANIFEST).read_bytes()
    assert content == Manifest.from_json(content).to_json()


def test_digest_is_the_hash_of_the_sums(flowers: StoredArtifact) -> None:
    """The digest stands for every byte: it is the SHA-256 of SHA256SUMS."""
    expected = hashlib.sha256((flowers.artifact / manifest.SUMS).read_bytes()).hexdigest()
    assert expected == storage.read_artifact(flowers.artifact).digest


def test_sums_are_what_sha256sum_checks(flowers: StoredArtifact) -> None:
    """The tool that everybody has accepts the file."""
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", manifest.SUMS], cwd=flowers.artifact, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr


FIXED = Manifest(
    name="flowers",
    version=3,
    created="2026-01-02T03:04:05+00:00",
    task="classification",
    features=(
        Feature(name='größe "m"', kind="float", min=-1.5, max=1e22, mean=0.1, median=0.0, std=1e-7),
        Feature(
            name="\N{GRINNING FACE}",
            kind="boolean",
            min=0.0,
            max=1.0,
            mean=0.5,
            median=1.0,
            std=0.5,
        ),
    ),
    targets=("species",),
    classes=(1, 1.5, True, "1"),
    metrics={part: {"accuracy": 1.0} for part in ("train", "validation", "test")},
    baselines={"linear": {"accuracy": 0.3333333333333333}},
    training={"epochs": 20, "learning_rate": 0.001, "note": None},
    proof={"warnings": [], "rows": 7},
)


def test_bytes_of_a_manifest_are_as_they_were() -> None:
    """The golden file: order of fields, indentation, printing of numbers and of text, byte for byte."""
    assert (Path(__file__).parent / "data" / "manifest.json").read_bytes() == FIXED.to_json()


def test_classes_keep_their_json_type() -> None:
    """1, 1.5, true and "1" are different classes and stay so."""
    read = Manifest.from_json(FIXED.to_json())
    assert FIXED == read
    assert [(type(value), value) for value in FIXED.classes] == [
        (type(value), value) for value in read.classes
    ]


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_schema_describes_what_export_writes(which: str, request: pytest.FixtureRequest) -> None:
    """The published JSON Schema is itself valid, and so are real manifests of both tasks under it."""
    made: StoredArtifact = request.getfixturevalue(which)
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads((made.artifact / manifest.MANIFEST).read_bytes())
    jsonschema.validate(document, schema)
    for name in document:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {key: value for key, value in document.items() if key != name}, schema
            )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"more": 1}, schema)


def test_schema_names_what_the_dataclasses_name(flowers: StoredArtifact) -> None:
    """Fields of the manifest, of a feature, of a runtime and of a comparison: the schema's, in the same order."""
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_bytes())
    document = json.loads((flowers.artifact / manifest.MANIFEST).read_bytes())
    assert (
        [field.name for field in dataclasses.fields(Manifest)]
        == schema["required"]
        == list(document)
    )
    feature = schema["properties"]["features"]["items"]
    assert [field.name for field in dataclasses.fields(Feature)] == feature["required"]
    definitions, proof = schema["$defs"], document["proof"]
    assert (
        list(proof) == definitions["proof"]["required"] == list(definitions["proof"]["properties"])
    )
    assert list(proof["comparisons"][0]) == definitions["comparison"]["required"]
    assert sorted(proof["runtimes"]["eager"]) == sorted(definitions["runtime"]["required"])


def edited(**changes: Any) -> bytes:
    """Return the fixed manifest as JSON with some fields replaced; None as a value drops the field."""
    document = json.loads(FIXED.to_json()) | changes
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


FEATURE = dataclasses.asdict(FIXED.features[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edited(name="../x"), "expected a name of [a-z0-9_-], found '../x'"),
        (edited(version=0), "expected a version of 1 or more, found 0"),
        (edited(version=True), "version: expected int, found true"),
        (edited(version=1.0), "version: expected int, found 1.0"),
        (edited(version=2**64), "too large for an integer"),
        (edited(format_version=True), "expected format_version 1, found True"),
        (edited(format_version="1"), "expected format_version 1, found '1'"),
        (edited(created="yesterday"), "expected created as ISO 8601 in UTC, found 'yesterday'"),
        (
            edited(task="ranking"),
            'task: expected one of regression, classification, found "ranking"',
        ),
        (edited(task=[]), "task: expected one of"),
        (edited(task=None), "'task' is missing"),
        (edited(more=1), "'more' is no part of the format"),
        (edited(features=[]), "expected features, each of its own name"),
        (edited(features={}), "features: expected a list, found {}"),
        (edited(features=[FEATURE, FEATURE]), "expected features, each of its own name"),
        (edited(features=[FEATURE | {"min": 1}]), "features: [0]: min: expected float, found 1"),
        (
            edited(features=[FEATURE | {"min": "1"}]),
            'features: [0]: min: expected float, found "1"',
        ),
        (edited(features=[FEATURE | {"min": 1e30}]), "min <= median <= max"),
        (
            edited(features=[FEATURE | {"kind": "text"}]),
            "kind: expected one of float, integer, boolean",
        ),
        (edited(features=[[]]), "features: [0]: expected an object, found []"),
        (edited(targets=[]), "expected targets: one, or several of a regression"),
        (edited(targets=["a", "b"]), "expected targets: one, or several of a regression"),
        (edited(classes=[]), "expected classes, each once"),
        (edited(classes=["a", "a"]), "expected classes, each once"),
        (edited(classes=[[]]), "classes: [0]: expected str or int or float or bool, found []"),
        (edited(task="regression"), "expected no classes of a regression"),
        (edited(metrics={}), "expected metrics of train, validation and test"),
        (edited(metrics={"train": 1}), "metrics: train: expected an object, found 1"),
        (edited(baselines={"linear": {"r2": 1.0}}), "expected the same metrics everywhere"),
        (edited(proof=[]), "proof: expected an object, found []"),
        (edited().replace(b'"name"', b'"name": "x", "name"', 1), "key 'name' stands twice"),
        (edited().replace(b"-1.5", b"NaN"), "NaN is no JSON"),
        (edited().replace(b"-1.5", b"-Infinity"), "-Infinity is no JSON"),
        (edited().replace(b"1.5", b"1e999"), "1e999 is too large"),
        (edited().replace(b"species", rb"\ud800"), "surrogates not allowed"),
        (edited().replace(b"species", b"\xff"), "invalid start byte"),
        (b"\xef\xbb\xbf" + edited(), "BOM"),
        (edited().decode().encode("utf-16"), "not a manifest"),
        (
            edited(proof={"deep": []}).replace(b"[]", b"[" * 20 + b"]" * 20),
            "expected at most 16 nested levels",
        ),
        (b"[" * 1_000_000, "expected at most 16 nested levels"),
        (b'"' + b'\\"' * 1_000_000, "not a manifest"),
    ],
)
def test_manifest_is_read_strictly(content: bytes, message: str) -> None:
    """Another type, another field, or JSON that two readers read differently: refused, with the place."""
    with pytest.raises(ArtifactError, match=re.escape(message)):
        Manifest.from_json(content)


@pytest.mark.parametrize("name", sorted({*storage.FILES, manifest.SUMS}))
def test_every_file_is_needed(artifact: Path, name: str) -> None:
    """An artifact without any one of its files is refused, and the file is named."""
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=re.escape(f"{name} is missing")):
        storage.read_artifact(artifact)


@pytest.mark.parametrize("name", sorted(storage.FILES))
def test_every_byte_counts(artifact: Path, name: str) -> None:
    """One flipped bit in the middle of any file is refused, and the file is named."""
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    with pytest.raises(
        ArtifactError,
        match=f"{re.escape(name)}: expected SHA-256 [0-9a-f]{{64}}, found [0-9a-f]{{64}}",
    ):
        storage.read_artifact(artifact)


def test_extra_file_is_refused(artifact: Path) -> None:
    """Nothing travels with an artifact that its hashes do not cover."""
    (artifact / "extra.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"unexpected file extra\.bin"):
        storage.read_artifact(artifact)


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
def test_sums_are_read_byte_strictly(
    artifact: Path, edit: Callable[[bytes], bytes], message: str
) -> None:
    """SHA256SUMS has one right form; every other is refused though `sha256sum -c` may take it."""
    path = artifact / manifest.SUMS
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ArtifactError, match=re.escape(message)):
        storage.read_artifact(artifact)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest: KeyError('format_version')"),
        (b'{"format_version": 2}', "expected format_version 1, found 2"),
        (b'{"format_version": 1}', "manifest.json: 'name' is missing"),
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
    assert [9, 10] == storage.list_versions(tmp_path)
    assert tmp_path / "10" == storage.find_version(tmp_path)
    assert tmp_path / "9" == storage.find_version(tmp_path / "9")


def test_last_published_is_by_time(tmp_path: Path) -> None:
    """The name whose newest version is the youngest, whatever the alphabet says."""
    for name, moment in (("a", 300), ("b", 100), ("c", 200)):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / manifest.SUMS).touch()
        os.utime(tmp_path / name / "1" / manifest.SUMS, (moment, moment))
    assert tmp_path / "a" == storage.last_published(tmp_path)


def test_nothing_to_find(tmp_path: Path) -> None:
    """Where there is no artifact the message says what to do."""
    with pytest.raises(ArtifactError, match="nothing is published here; export a run first"):
        storage.last_published(tmp_path)
    with pytest.raises(ArtifactError, match="holds no artifact"):
        storage.find_version(tmp_path)
    with pytest.raises(ArtifactError, match="no such folder"):
        storage.find_version(tmp_path / "nope")
