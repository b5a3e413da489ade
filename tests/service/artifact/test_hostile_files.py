"""Hostile artifacts: what was found is named, and no library parses a model before it is refused."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from export import ProofError
from export.verification import verify
from service.__main__ import main
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime import check
from service.runtime.predictor import Predictor

Edit = Callable[[Path], object]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of the libraries that are asked to parse a model."""
    asked: list[str] = []

    def watch(module: object, name: str) -> None:
        monkeypatch.setattr(module, name, lambda *args, **options: asked.append(name))

    watch(onnxruntime, "InferenceSession")
    watch(onnx, "load_model_from_string")
    watch(torch.jit, "load")
    return asked


def overwrite(name: str, content: bytes) -> Edit:
    """Return an edit that replaces a file."""
    return lambda path: (path / name).write_bytes(content)


def cut(name: str) -> Edit:
    """Return an edit that leaves the first half of a file."""
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


def grow(name: str) -> Edit:
    """Return an edit that makes a file larger than it may be, without filling a disk."""
    limit = {**storage.MAX_FILE_BYTES, manifest.SUMS: storage.MAX_SUMS_BYTES}[name]
    return lambda path: os.truncate(path / name, limit + 1)


def link(name: str) -> Edit:
    """Return an edit that moves a file out and leaves a link to it."""

    def move(path: Path) -> None:
        (path / name).rename(path.parent / "outside")
        (path / name).symlink_to(path.parent / "outside")

    return move


def become(name: str, make: Callable[[Path], object]) -> Edit:
    """Return an edit that puts something else in a file's place."""

    def replace(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return replace


def list_too(name: str) -> Edit:
    """Return an edit that adds a line to SHA256SUMS."""

    def add(path: Path) -> None:
        sums = path / manifest.SUMS
        sums.write_bytes(sums.read_bytes() + f"{'0' * 64}  {name}\n".encode())

    return add


UNPACKED: dict[str, tuple[Edit, str]] = {
    "an extra file": (overwrite("setup.py", b""), "unexpected file setup.py"),
    "an extra folder": (lambda path: (path / "data").mkdir(), "unexpected file data"),
    "path escape": (
        list_too("../../etc/passwd"),
        "line 10 is not '<64 lower-case hex digits>  <file>': '0000",
    ),
    "absolute path": (list_too("/etc/passwd"), "SHA256SUMS: line 10 is not"),
    "parent folder": (
        list_too(".."),
        "SHA256SUMS: line 10 names '..', which is no file of the format",
    ),
    "unknown name": (
        list_too("other.onnx"),
        "line 10 names 'other.onnx', which is no file of the format",
    ),
    "wrong hash": (
        lambda path: (path / manifest.SUMS).write_bytes(
            re.sub(rb"[0-9a-f]{64}(?=  model.onnx)", b"0" * 64, (path / manifest.SUMS).read_bytes())
        ),
        f"model.onnx: expected SHA-256 {'0' * 64}, found ",
    ),
    "a folder as a file": (
        become(manifest.CARD, Path.mkdir),
        "README.md: expected a regular file, found a folder",
    ),
    "a pipe as a file": (
        become(manifest.GOLDEN, os.mkfifo),
        "golden.json: expected a regular file, found a pipe",
    ),
    "a device as a file": (
        become(manifest.CARD, lambda path: path.symlink_to("/dev/zero")),
        "README.md: expected a regular file, found a symbolic link",
    ),
    **{
        f"{name} truncated": (cut(name), f"{name}: expected SHA-256")
        for name in sorted(storage.FILES)
    },
    "SHA256SUMS truncated": (cut(manifest.SUMS), "SHA256SUMS: line "),
    **{
        f"{name} a link": (link(name), f"{name}: expected a regular file, found a symbolic link")
        for name in sorted({*storage.FILES, manifest.SUMS})
    },
    **{
        f"{name} too large": (grow(name), f"{name}: expected at most ")
        for name in sorted({*storage.FILES, manifest.SUMS})
    },
}
"""What the hashes, or the look at the folder before them, must see."""


def model(edit: Callable[[onnx.ModelProto], object]) -> Edit:
    """Return an edit of model.onnx."""
    return lambda path: (path / manifest.MODEL).write_bytes(
        _edited((path / manifest.MODEL).read_bytes(), edit)
    )


def _edited(content: bytes, edit: Callable[[onnx.ModelProto], object]) -> bytes:
    changed = onnx.ModelProto.FromString(content)
    edit(changed)
    serialized: bytes = changed.SerializeToString()
    return serialized


def point_outside(model: onnx.ModelProto) -> None:
    """Let a tensor be read from a file of the machine."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def branch(model: onnx.ModelProto) -> None:
    """Hide a graph in an attribute."""
    graph = onnx.helper.make_graph([], "hidden", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", graph))


def declare(model: onnx.ModelProto) -> None:
    """Declare a tensor of 4 TB."""
    model.graph.initializer[0].dims[:] = [2**20, 2**20]


def header(
    change: Callable[[dict[str, dict[str, object]]], object], length: int | None = None
) -> Edit:
    """Return an edit of the header of weights.safetensors, or of the length that it declares."""

    def edit(path: Path) -> None:
        content = (path / manifest.WEIGHTS).read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        document = json.loads(content[8:end])
        change(document)
        text = json.dumps(document).encode()
        size = len(text) if length is None else length
        (path / manifest.WEIGHTS).write_bytes(struct.pack("<Q", size) + text + content[end:])

    return edit


def stated(old: bytes, new: bytes, name: str = manifest.MANIFEST) -> Edit:
    """Return an edit of the text of a file."""

    def replace(path: Path) -> None:
        content = (path / name).read_bytes()
        assert old in content
        (path / name).write_bytes(content.replace(old, new, 1))

    return replace


REPACKED: dict[str, tuple[Edit, str]] = {
    "external data": (model(point_outside), "model.onnx: tensor holds "),
    "a function": (model(lambda m: m.functions.add(name="f")), "model.onnx: model holds functions"),
    "a subgraph": (model(branch), "model.onnx: attribute holds a subgraph"),
    "a sparse tensor": (
        model(lambda m: m.graph.sparse_initializer.add()),
        "model.onnx: graph holds sparse_init",
    ),
    "another domain": (
        model(lambda m: setattr(m.graph.node[0], "domain", "com.microsoft")),
        "model.onnx: operator 'com.microsoft::Sub' is no part of the format",
    ),
    "another operator": (
        model(lambda m: setattr(m.graph.node[3], "op_type", "Loop")),
        "model.onnx: operator 'Loop' is no part of the format",
    ),
    "another opset": (
        model(lambda m: setattr(m.opset_import[0], "version", 99)),
        "model.onnx: opsets: expected [([''], [17])], found [([''], [99])]",
    ),
    "an opset of another domain": (
        model(lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3)),
        "found [([''], [17]), (['ai.onnx.ml'], [3])]",
    ),
    "another IR": (
        model(lambda m: setattr(m, "ir_version", 99)),
        "IR version: expected [8], found [99]",
    ),
    "giant dimensions": (
        model(declare),
        "declares the shape (1048576, 1048576) and holds 64 bytes",
    ),
    "negative dimensions": (
        model(lambda m: m.graph.initializer[0].dims.__setitem__(0, -1)),
        "declares the shape (18446744073709551615,)",
    ),
    "metadata": (
        model(lambda m: m.metadata_props.add(key="a", value="b")),
        "model.onnx: model holds metadata_props",
    ),
    "no ONNX": (overwrite(manifest.MODEL, b"garbage"), "model.onnx: model holds field 12"),
    "an empty model": (overwrite(manifest.MODEL, b""), "model.onnx: holds no graph"),
    "unknown format_version": (
        stated(b'"format_version": 1', b'"format_version": 2'),
        "expected format_version 1",
    ),
    "a key twice": (stated(b'"name"', b'"name": "x", "name"'), "key 'name' stands twice"),
    "deep manifest": (
        stated(b'"targets": [', b'"targets": [' + b"[" * 100_000),
        "at most 16 nested levels",
    ),
    "NaN in the manifest": (stated(b'"std": ', b'"std": NaN, "s": '), "NaN is no JSON"),
}
"""Seen by the service too, though every hash is consistent."""

PROVED: dict[str, tuple[Edit, str]] = {
    "giant header": (
        header(lambda h: None, 2**63),
        "declares a header of 9223372036854775808 bytes",
    ),
    "header beyond the file": (header(lambda h: None, 2**19), "declares a header of 524288 bytes"),
    "giant tensor": (
        header(lambda h: h["shift"].update(data_offsets=[0, 2**62], shape=[2**60])),
        "weights.safetensors: ",
    ),
    "giant shape": (
        header(lambda h: h["shift"].update(shape=[2**60])),
        "'shift': shape [1152921504606846976]",
    ),
    "overlapping tensors": (
        header(lambda h: h["shift"].update(data_offsets=h["scale"]["data_offsets"])),
        "expected from",
    ),
    "another type": (
        header(lambda h: h["shift"].update(dtype="F16")),
        "'shift': expected an F32 tensor",
    ),
    "a missing tensor": (header(lambda h: h.pop("shift")), "weights.safetensors: "),
    "metadata of weights": (
        header(lambda h: h.update(__metadata__={})),
        "'__metadata__': no tensor",
    ),
    "no weights": (overwrite(manifest.WEIGHTS, b""), "declares a header of 0 bytes"),
}
"""Seen by whoever reads the weights: `service check` and `export verify`."""

GOLDEN: dict[str, tuple[Edit, str]] = {
    "golden twice": (
        stated(b'"input"', b'"input": [], "input"', manifest.GOLDEN),
        "key 'input' stands twice",
    ),
    "golden infinite": (
        stated(b'"input": [[', b'"input": [[1e999, ', manifest.GOLDEN),
        "1e999 is too large",
    ),
    "golden deep": (overwrite(manifest.GOLDEN, b"[" * 100_000), "at most 16 nested levels"),
    "golden with more": (
        stated(b'"input"', b'"more": 1, "input"', manifest.GOLDEN),
        "and nothing else",
    ),
    "golden of text": (
        stated(b'"input": [[', b'"input": [["1.0", ', manifest.GOLDEN),
        "each with a point",
    ),
    "golden of truth": (
        stated(b'"input": [[', b'"input": [[true, ', manifest.GOLDEN),
        "each with a point",
    ),
}


def refused(call: Callable[[Path], object], path: Path, message: str) -> None:
    """Assert that a path is refused with a message."""
    with pytest.raises((ArtifactError, ProofError), match=re.escape(message)):
        call(path)


@pytest.mark.parametrize("kind", UNPACKED)
def test_folder_is_refused_before_anything_is_parsed(
    artifact: Path, parsed: list[str], kind: str
) -> None:
    """A file that is missing, cut, linked, too large, too many or not what its hash says, by the service and verify."""
    edit, message = UNPACKED[kind]
    edit(artifact)
    for call in (Predictor, verify, check.check_artifact):
        refused(call, artifact, message)
    assert [] == parsed


@pytest.mark.parametrize("kind", REPACKED)
def test_model_and_manifest_are_refused_before_anything_is_parsed(
    artifact: Path, repack: Callable[[Path], None], parsed: list[str], kind: str
) -> None:
    """Hashes that fit and a model that asks for more than the format has, or a manifest read two ways."""
    edit, message = REPACKED[kind]
    edit(artifact)
    repack(artifact)
    for call in (Predictor, check.check_artifact, verify):
        refused(call, artifact, message)
    assert [] == parsed


@pytest.mark.parametrize("kind", PROVED)
def test_weights_are_refused_before_anything_is_parsed(
    artifact: Path, repack: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Declared sizes that the file does not have are never allocated, and nothing else is loaded."""
    edit, message = PROVED[kind]
    edit(artifact)
    repack(artifact)
    refused(check.check_artifact, artifact, message)
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(onnx, "load_model_from_string", None)
    with pytest.raises((ArtifactError, ProofError), match=r"weights\.safetensors: "):
        verify(artifact)


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_rows_are_read_strictly(
    artifact: Path, repack: Callable[[Path], None], kind: str
) -> None:
    """JSON that two readers read differently, or that is no numbers."""
    edit, message = GOLDEN[kind]
    edit(artifact)
    repack(artifact)
    for call in (Predictor, check.check_artifact):
        refused(call, artifact, message)


def test_check_says_which(artifact: Path) -> None:
    """The command ends in one line and exit code 1; with --json, in one document."""
    link(manifest.MODEL)(artifact)
    ended = CliRunner().invoke(main, ["check", str(artifact)])
    line = f"{artifact}/model.onnx: expected a regular file, found a symbolic link"
    assert (1, f"Error: {line}\n", "") == (ended.exit_code, ended.stderr, ended.stdout)
    ended = CliRunner().invoke(main, ["check", "--json", str(artifact)])
    expected = {"artifact": str(artifact), "holds": False, "digest": None, "error": line}
    assert (1, "", expected) == (ended.exit_code, ended.stderr, json.loads(ended.stdout))
