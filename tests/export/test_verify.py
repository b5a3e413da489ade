"""`python -m export verify`: an artifact that is edited, with every hash made to fit, is not proved again."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from click.testing import CliRunner

from export import ProofError
from export.__main__ import main
from export.verify import verify
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.predictor import Predictor
from tests.trained import Trained

Edit = Callable[[Path], object]


def weights(edit: Callable[[dict[str, Any]], object]) -> Edit:
    """Return an edit of the tensors of weights.safetensors."""

    def change(path: Path) -> None:
        tensors = safetensors.numpy.load((path / manifest.WEIGHTS).read_bytes())
        edit(tensors)
        (path / manifest.WEIGHTS).write_bytes(safetensors.numpy.save(tensors))

    return change


def document(name: str, edit: Callable[[Any], object], **options: Any) -> Edit:
    """Return an edit of a JSON file."""

    def change(path: Path) -> None:
        value = json.loads((path / name).read_bytes())
        edit(value)
        (path / name).write_text(json.dumps(value, **options) + "\n", encoding="utf-8")

    return change


def described(edit: Callable[[Any], object]) -> Edit:
    """Return an edit of manifest.json that keeps its form."""
    return document(manifest.MANIFEST, edit, indent=1, ensure_ascii=False)


def rezip(edit: Callable[[str, bytes], bytes], *more: tuple[str, bytes]) -> Edit:
    """Return an edit of the entries of model.torchscript.pt."""

    def change(path: Path) -> None:
        out = io.BytesIO()
        with (
            zipfile.ZipFile(path / manifest.TORCHSCRIPT) as source,
            zipfile.ZipFile(out, "w") as target,
        ):
            for entry in source.infolist():
                target.writestr(entry, edit(entry.filename, source.read(entry)))
            for name, content in more:
                target.writestr(name, content)
        (path / manifest.TORCHSCRIPT).write_bytes(out.getvalue())

    return change


def one_ulp(path: Path) -> None:
    """Move one weight of the ONNX file to its neighbour."""
    model = onnx.ModelProto.FromString((path / manifest.MODEL).read_bytes())
    tensor = next(t for t in model.graph.initializer if t.name == "net.linear1.weight")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(np.inf))
    tensor.raw_data = values.tobytes()
    (path / manifest.MODEL).write_bytes(model.SerializeToString(deterministic=True))


def first(golden: Any, key: str, value: object) -> None:
    """Set the first number of the logits' references or bounds."""
    golden["outputs"]["logits"][key][0][0] = value


CODE = "archive/code/__torch__/model/net.py"

EDITS: dict[str, tuple[Edit, str]] = {
    "one ulp in the ONNX file": (one_ulp, "model.onnx: net.linear1.weight: 1 of 64 values differ"),
    "one ulp in the weights": (
        weights(lambda t: t.update(shift=np.nextafter(t["shift"], np.float32(np.inf)))),
        "manifest.json: the mean and std of 'petal, length' are not those of its shift",
    ),
    "other layers": (
        weights(lambda t: t.update({"net.linear1.bias": t["net.linear1.bias"] * 2})),
        "golden.json: ",
    ),
    "a missing tensor": (
        weights(lambda t: t.pop("scale")),
        "weights.safetensors: tensors: expected",
    ),
    "a tensor more": (
        weights(lambda t: t.update(more=t["scale"])),
        "weights.safetensors: tensors: expected",
    ),
    "a shape": (
        weights(lambda t: t.update(scale=t["scale"][:2].copy())),
        "weights.safetensors: shape of scale: expected (4,), found (2,)",
    ),
    "NaN": (
        weights(
            lambda t: t.update({"net.linear2.bias": t["net.linear2.bias"] * np.float32("nan")})
        ),
        "weights.safetensors: net.linear2.bias: expected finite numbers",
    ),
    "a golden reference": (
        document(
            manifest.GOLDEN,
            lambda g: first(g, "reference", g["outputs"]["logits"]["reference"][0][0] + 1e-8),
        ),
        "golden.json: logits: reference is not what follows from weights.safetensors",
    ),
    "a golden bound": (
        document(manifest.GOLDEN, lambda g: first(g, "bound", 1e9)),
        "golden.json: logits: bound is not what follows",
    ),
    "a golden row": (
        document(manifest.GOLDEN, lambda g: g["input"][0].reverse()),
        "golden.json: input: expected",
    ),
    "a golden row less": (
        document(manifest.GOLDEN, lambda g: g["input"].pop()),
        "golden.json: input: expected",
    ),
    "a golden label": (
        document(manifest.GOLDEN, lambda g: g["outputs"]["label"]["accepted"][0].append(0)),
        "golden.json: label: accepted is not what follows",
    ),
    "a golden output less": (
        document(manifest.GOLDEN, lambda g: g["outputs"].pop("label")),
        "golden.json: outputs",
    ),
    "more in an output": (
        document(manifest.GOLDEN, lambda g: g["outputs"]["label"].update(more=1)),
        "golden.json: label: accepted is not what follows",
    ),
    "another class order": (
        described(lambda m: m["classes"].reverse()),
        "README.md: expected the bytes that follow",
    ),
    "another form": (
        document(manifest.MANIFEST, lambda m: None),
        "manifest.json: expected the bytes that follow",
    ),
    "another mean": (
        described(lambda m: m["features"][1].update(mean=0.5)),
        "mean and std of 'sepal width'",
    ),
    "another std": (
        described(lambda m: m["features"][1].update(std=0.5)),
        "'sepal width' are not those of its scale",
    ),
    "another median": (
        described(lambda m: m["features"][1].update(median=0.5)),
        "example.json: expected the bytes",
    ),
    "a feature less": (
        described(lambda m: m["features"].pop()),
        "count of features: expected 4, found 3",
    ),
    "a class less": (
        described(lambda m: m["classes"].pop()),
        "count of outputs: expected 3, found 2",
    ),
    "another task": (
        described(lambda m: m.update(task="regression", classes=[], targets=["a", "b", "c"])),
        "task: expected classification, found regression",
    ),
    "a better metric": (
        described(lambda m: m["metrics"]["test"].update(accuracy=2.0)),
        "README.md: expected",
    ),
    "no proof": (described(lambda m: m.update(proof={})), "manifest.json: proof: cannot be read"),
    "a failed proof": (
        described(lambda m: m["proof"]["comparisons"][0].update(passed=False)),
        "manifest.json: proof: states a comparison that failed: real rows",
    ),
    "comparisons of another kind": (
        described(lambda m: m["proof"].update(comparisons=[1])),
        "manifest.json: proof: cannot be read: expected a list",
    ),
    "a comparison of nothing": (
        described(lambda m: m["proof"].update(comparisons=[{}])),
        "manifest.json: proof: states a comparison that failed: None",
    ),
    "a matrix for a bias": (
        weights(lambda t: t.update({"net.linear1.bias": t["net.linear1.bias"][None].copy()})),
        "weights.safetensors: dimensions of net.linear1.bias: expected 1, found 2",
    ),
    "a shape beyond NumPy's": (
        weights(lambda t: t.update(shift=np.zeros((0,) * 33, np.float32))),
        "weights.safetensors: ",
    ),
    "the card": (
        lambda path: (path / manifest.CARD).write_bytes(b"# flowers\n"),
        "README.md: expected the bytes",
    ),
    "the example": (
        document(manifest.EXAMPLE, lambda e: e["instances"].pop()),
        "example.json: expected the bytes",
    ),
    "no picture": (
        lambda path: (path / manifest.CURVES).write_bytes(b"\x89PNG\r\n\x1a\n"),
        "curves.png: no whole PNG",
    ),
    "half a picture": (
        lambda path: (path / manifest.PROOF).write_bytes(
            (path / manifest.PROOF).read_bytes()[:-20]
        ),
        "proof.png: no whole PNG",
    ),
    "other code": (
        rezip(lambda name, data: data.replace(b"relu(input)", b"abs(input)")),
        "model.torchscript.pt: archive/code/__torch__/torch/nn/functional.py is not what torch",
    ),
    "a pickle that runs": (
        rezip(
            lambda name, data: b"cos\nsystem\n(S'true'\ntR." if name == "archive/data.pkl" else data
        ),
        "model.torchscript.pt: archive/data.pkl is not what torch",
    ),
    "more code": (
        rezip(lambda name, data: data, ("archive/code/more.py", b"")),
        "model.torchscript.pt: archive/code/more.py is not what torch",
    ),
    "something before the archive": (
        lambda path: (path / manifest.TORCHSCRIPT).write_bytes(
            b"#!" + (path / manifest.TORCHSCRIPT).read_bytes()
        ),
        "model.torchscript.pt: expected an archive as export writes it",
    ),
    "no archive": (lambda path: (path / manifest.TORCHSCRIPT).write_bytes(b"PK"), "not an archive"),
    "a parameter": (
        rezip(lambda name, data: bytes(len(data)) if name == "archive/data/0" else data),
        "model.torchscript.pt: shift: 4 of 4 values differ",
    ),
    "Triton's file": (
        lambda path: (path.parent / "config.pbtxt").write_text(""),
        "config.pbtxt: expected the bytes that follow",
    ),
}


@pytest.mark.parametrize("kind", EDITS)
def test_edited_artifact_is_not_proved(
    artifact: Path, repack: Callable[[Path], None], kind: str
) -> None:
    """Every file is held to weights.safetensors or to the manifest, and what differs is named."""
    edit, message = EDITS[kind]
    edit(artifact)
    repack(artifact)
    with pytest.raises((ProofError, ArtifactError), match=re.escape(message)):
        verify(artifact)


def test_golden_of_another_machine_is_accepted(
    artifact: Path, repack: Callable[[Path], None]
) -> None:
    """float64 sums in another order differ in the last digits; that is no edit."""

    def move(golden: Any) -> None:
        reference, bound = (
            golden["outputs"]["logits"]["reference"][0],
            golden["outputs"]["logits"]["bound"][0],
        )
        reference[0] += bound[0] * 2.0**-21
        bound[0] *= 1 + 2.0**-21

    document(manifest.GOLDEN, move)(artifact)
    repack(artifact)
    verify(artifact)


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_verify_proves_what_was_published(which: str, request: pytest.FixtureRequest) -> None:
    """Exit code 0, the digest, a table that names every runtime; with --json, the same as one document."""
    made: Trained = request.getfixturevalue(which)
    digest = Predictor(made.artifact).digest
    ended = CliRunner().invoke(main, ["verify", str(made.artifact.parent)])
    assert (0, "") == (ended.exit_code, ended.stderr)
    assert (
        f"proved {made.artifact}, with its golden rows in place of real ones; digest {digest}\n"
        in ended.stdout
    )
    table = ended.stdout
    ended = CliRunner().invoke(main, ["verify", "--json", str(made.artifact)])
    found = json.loads(ended.stdout)
    assert (0, True, digest, None) == (
        ended.exit_code,
        found["proved"],
        found["digest"],
        found["error"],
    )
    stated = Predictor(made.artifact).manifest.proof
    assert list(stated) == list(found["proof"])
    assert stated["host"] == found["proof"]["host"]
    assert list(stated["runtimes"]) == list(found["proof"]["runtimes"])
    assert all(f"\n{name} " in table for name in found["proof"]["runtimes"])


def test_verify_needs_the_folder_alone(artifact: Path) -> None:
    """A version copied elsewhere, without its neighbours, is proved all the same."""
    (artifact.parent.parent / "copy").mkdir()
    moved = artifact.rename(artifact.parent.parent / "copy" / "anything")
    assert Predictor(moved).digest == verify(moved).digest


def test_verify_of_a_failed_proof(artifact: Path) -> None:
    """One line, exit code 1; with --json one document, and the same code."""
    (artifact / manifest.CARD).write_bytes(b"")
    ended = CliRunner().invoke(main, ["verify", str(artifact)])
    assert 1 == ended.exit_code
    assert ended.stderr.startswith(f"Error: not proved: {artifact}: README.md: expected SHA-256 ")
    ended = CliRunner().invoke(main, ["verify", "--json", str(artifact)])
    found = json.loads(ended.stdout)
    assert (1, "", False, None) == (ended.exit_code, ended.stderr, found["proved"], found["proof"])
    assert found["error"].startswith(f"{artifact}: README.md: expected SHA-256 ")


@pytest.mark.parametrize("path", ["nope", "."])
def test_verify_of_nothing(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No artifact there: exit code 2."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["verify", path])
    assert 2 == ended.exit_code
    assert "expected artifacts/<name> or artifacts/<name>/<version>" in ended.stderr
    ended = CliRunner().invoke(main, ["verify", "--json", path])
    assert (2, False) == (ended.exit_code, json.loads(ended.stdout)["proved"])
