"""Mutants of weights.safetensors, golden.json, manifest.json, README.md and the pictures."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from export.card import card
from export.errors import ProofError
from export.golden import example_document, golden_document, golden_rows, json_bytes
from export.proof.prove import Proof
from service.artifact import manifest
from service.artifact.manifest import ArtifactError, Manifest
from tests.mutants import graph, script
from tests.mutants.subject import DoesNotApplyError, Kind, Mutant, Subject, defer
from tests.mutants.tensors import (
    B1,
    B2,
    COMMON,
    W1,
    Change,
    Floats,
    apply_change,
    double_first_row,
    one_ulp,
)

Apply = Callable[[Subject], Subject]
Document = dict[str, Any]
Edit = Callable[[Any], object]


@defer
def tensors(subject: Subject, edit: Edit, metadata: dict[str, str] | None = None) -> Subject:
    """Apply an edit to the tensors of weights.safetensors."""
    weights = {name: values.copy() for name, values in subject.weights.items()}
    edit(weights)
    return subject.replaced(WEIGHTS=safetensors.numpy.save(weights, metadata))


def tensor(name: str, change: Change) -> Apply:
    """Return a mutation of one tensor of weights.safetensors."""
    return tensors(lambda weights: weights.update({name: apply_change(weights, name, change)}))


@defer
def golden(subject: Subject, edit: Edit) -> Subject:
    """Edit golden.json, and serialise it as export does."""
    edit(document := subject.document(manifest.GOLDEN))
    return subject.replaced(GOLDEN=json.dumps(document).encode() + b"\n")


@defer
def edit_manifest(subject: Subject, edit: Edit) -> Subject:
    """Edit only manifest.json, and serialise it as export does."""
    edit(document := subject.document(manifest.MANIFEST))
    content = json.dumps(document, indent=1, ensure_ascii=False)
    return subject.replaced(MANIFEST=content.encode() + b"\n")


def recompute(subject: Subject, weights: Mapping[str, Floats]) -> Subject:
    """Recompute golden.json, example.json and README.md from the manifest and the weights."""
    try:
        new = Manifest.from_json(subject.files[manifest.MANIFEST])
        return subject.replaced(
            CARD=card(new, Proof.from_members(new.proof)),
            EXAMPLE=example_document(new.features),
            GOLDEN=json_bytes(golden_document(weights, golden_rows(new.features))),
        )
    except (ArtifactError, ProofError) as error:
        raise DoesNotApplyError(str(error)) from None


def forge(edit: Edit) -> Apply:
    """Return a mutation that edits manifest.json and recomputes the files derived from it."""
    return lambda subject: recompute(edit_manifest(edit)(subject), subject.weights)


@defer
def change_files(subject: Subject, *files: str, change: Change = one_ulp) -> Subject:
    """Make the same change of one weight in several files; "golden" recomputes golden.json."""
    weights = {**subject.weights, W1: apply_change(subject.weights, W1, change)}
    if "onnx" in files:
        subject = graph.edit_graph(graph.change(W1, change))(subject)
    if "torchscript" in files:
        subject = script.tensor(W1, change)(subject)
    if "weights" in files:
        subject = tensors(lambda old: old.update(weights))(subject)
    return recompute(subject, weights) if "golden" in files else subject


def file(name: str, edit: Callable[[bytes], bytes]) -> Apply:
    """Return an edit of the bytes of a file; name is a constant of service.artifact.manifest."""
    return lambda subject: subject.replaced(**{name: edit(subject.files[getattr(manifest, name)])})


def with_longer_header(content: bytes) -> bytes:
    """Return a safetensors file with eight spaces added to its header."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    return (length + 8).to_bytes(8, "little") + header + b" " * 8 + data


def first_output(document: Document) -> dict[str, list[list[float]]]:
    """Return the first output of golden.json."""
    output: dict[str, list[list[float]]] = next(iter(document["outputs"].values()))
    return output


def labels(document: Document) -> list[list[Any]]:
    """Return the accepted labels of golden.json."""
    if "label" not in document["outputs"]:
        raise DoesNotApplyError
    accepted: list[list[Any]] = document["outputs"]["label"]["accepted"]
    return accepted


@defer
def each_label(document: Document, change: Callable[[int], Any]) -> None:
    """Apply a change to every accepted label of golden.json."""
    for accepted in labels(document):
        accepted[:] = map(change, accepted)


@defer
def move_reference(document: Document, share: float) -> None:
    """Add a share of its bound to a reference; the outputs must still be within the bound."""
    output = first_output(document)
    output["reference"][0][0] += output["bound"][0][0] * share


def feature(**fields: Any) -> Edit:
    """Return an edit that updates fields of the first feature."""
    return lambda document: document["features"][0].update(fields)


def other_task(document: Document) -> None:
    """Turn a classification into a regression or vice versa, with the same number of outputs."""
    if document["task"] == "classification":
        targets = [str(name) for name in document["classes"]]
        document.update(task="regression", targets=targets, classes=[])
    else:
        document.update(task="classification", classes=document["targets"], targets=["class"])


@defer
def members(document: Document, key: str, edit: Edit) -> None:
    """Edit a list in the manifest; the mutant does not apply to a task for which it is empty."""
    if not document[key]:
        raise DoesNotApplyError
    edit(document[key])


def rename(key: str) -> Edit:
    """Return an edit that renames the first item of a list."""
    return members(key, lambda values: values.__setitem__(0, "other"))


def metric(value: float) -> Edit:
    """Return an edit that replaces the test accuracy in the manifest."""
    return lambda document: document["metrics"]["test"].update(accuracy=value)


def comparisons(value: object) -> Edit:
    """Return an edit that replaces the comparisons of the proof."""
    return lambda document: document["proof"].update(comparisons=value)


WEIGHTS: dict[str, Apply] = {
    **{name: tensor(*where) for name, where in COMMON.items()},
    "a tensor missing": tensors(lambda w: w.pop(B1)),
    "a tensor too many": tensors(lambda w: w.update(spare=np.zeros(1, np.float32))),
    "no tensors": tensors(lambda w: w.clear()),
    "float64": tensors(lambda w: w.update({k: v.astype(np.float64) for k, v in w.items()})),
    "another shape": tensors(lambda w: w.update({W1: w[W1].reshape(1, -1)})),
    "a bias of another length": tensors(lambda w: w.update({B2: np.zeros(99, np.float32)})),
    "a bias of two dimensions": tensors(lambda w: w.update({B1: w[B1][None].copy()})),
    "a shape beyond NumPy's": tensors(lambda w: w.update(shift=np.zeros((0,) * 33, np.float32))),
}
GOLDEN: dict[str, Apply] = {
    "a reference edited": golden(lambda g: first_output(g)["reference"][0].__setitem__(0, 1e6)),
    "a reference moved within its bound": golden(move_reference(1e-3)),
    "a bound widened to 1e30": golden(lambda g: first_output(g)["bound"][0].__setitem__(0, 1e30)),
    "a negative bound": golden(lambda g: first_output(g)["bound"][0].__setitem__(0, -1.0)),
    "an input edited": golden(lambda g: g["input"][0].__setitem__(0, 0.5)),
    "labels widened": golden(
        lambda g: labels(g)[0].extend(label for label in range(99) if label not in labels(g)[0])
    ),
    "labels exchanged": golden(each_label(lambda label: label + 1)),
    "an output missing": golden(lambda g: g["outputs"].pop(next(iter(g["outputs"])))),
    "a member of an output too many": golden(lambda g: first_output(g).update(spare=[])),
    "an output too many": golden(lambda g: g["outputs"].update(spare=first_output(g))),
    "format version 2": golden(lambda g: g.update(format_version=2)),
}
MANIFEST: dict[str, Apply] = {
    "classes permuted": edit_manifest(lambda m: m["classes"].reverse()),
    "a class renamed": edit_manifest(rename("classes")),
    "a class too many": forge(members("classes", lambda classes: classes.append("other"))),
    "a class twice": edit_manifest(members("classes", lambda v: v.__setitem__(0, v[1]))),
    "features permuted": edit_manifest(lambda m: m["features"].reverse()),
    "features permuted, other files recomputed": forge(lambda m: m["features"].reverse()),
    "a feature missing": edit_manifest(lambda m: m["features"].pop()),
    "a feature twice": edit_manifest(lambda m: m["features"].append(m["features"][0])),
    "a feature renamed": edit_manifest(feature(name="other")),
    "a feature's mean edited": forge(feature(mean=0.75)),
    "a feature's std edited": forge(feature(std=0.75)),
    "a feature's minimum edited": edit_manifest(feature(min=-1e3)),
    "task exchanged": edit_manifest(other_task),
    "task exchanged, other files recomputed": forge(other_task),
    "targets renamed": edit_manifest(rename("targets")),
    "metrics edited": edit_manifest(metric(0.999)),
    "a field too many": edit_manifest(lambda m: m.update(spare=1)),
    "a key twice": file(
        "MANIFEST", lambda old: old.replace(b'{\n "', b'{\n "task": "regression",\n "', 1)
    ),
    "no proof": edit_manifest(lambda m: m.update(proof={})),
    "comparisons of the wrong type": edit_manifest(comparisons([1])),
    "an empty comparison": edit_manifest(comparisons([{}])),
    "a failed comparison": edit_manifest(
        lambda m: m["proof"]["comparisons"][0].update(passed=False)
    ),
}
OTHER: dict[str, Apply] = {
    "example.json: another row": file("EXAMPLE", lambda content: b'{"instances": [[0.0]]}\n'),
    "README.md: edited": file("CARD", lambda old: old.replace(b"version 1", b"version 2")),
    "curves.png: truncated": file("CURVES", lambda old: old[:-1]),
    "curves.png: a signature alone": file("CURVES", lambda old: old[:8]),
    "proof.png: truncated to half": file("PROOF", lambda old: old[: len(old) // 2]),
    "weights and onnx: one ULP": change_files("weights", "onnx", "golden"),
    "weights and torchscript: one ULP": change_files("weights", "torchscript", "golden"),
    "onnx and torchscript: one ULP": change_files("onnx", "torchscript", "golden"),
    "all but golden.json: one row of W1 doubled": change_files(
        "weights", "onnx", "torchscript", change=double_first_row
    ),
}
FORM: dict[str, Apply] = {
    "weights.safetensors: metadata": tensors(lambda w: None, {"path": "/home"}),
    "weights.safetensors: trailing bytes": file("WEIGHTS", lambda old: old + b"\0"),
    "weights.safetensors: a longer header": file("WEIGHTS", with_longer_header),
    "golden.json: other spaces": file("GOLDEN", lambda old: old.replace(b", ", b",")),
    "golden.json: a label is true": golden(each_label(lambda label: label == 1 or label)),
    "golden.json: labels as floats": golden(each_label(float)),
    "golden.json: format version 1.0": golden(lambda g: g.update(format_version=1.0)),
    "golden.json: a zero is negative": golden(
        lambda g: g["input"].__setitem__(3, [-value for value in g["input"][3]])
    ),
    "golden.json: a key too many": golden(lambda g: g.update(spare=1)),
    "manifest.json: other spaces": file("MANIFEST", lambda old: old.replace(b"\n ", b"\n  ")),
}
STALE_GOLDEN = "one ULP in every file but golden.json"
CLAIMS: dict[str, Apply] = {
    "classes permuted": forge(lambda m: m["classes"].reverse()),
    "a class renamed": forge(rename("classes")),
    "a feature renamed": forge(feature(name="other")),
    "a feature's minimum edited": forge(feature(min=-1e3)),
    "a feature's kind edited": forge(feature(kind="boolean")),
    "targets renamed": forge(rename("targets")),
    "metrics edited": forge(metric(0.999)),
    "baselines edited": forge(lambda m: m.update(baselines={})),
    "training edited": forge(lambda m: m["training"].update(device="abacus")),
    "one ULP in every file": change_files("weights", "onnx", "torchscript", "golden"),
    "curves.png: the other picture": lambda s: s.replaced(CURVES=s.files[manifest.PROOF]),
    # On wide networks golden.json would change by less than the rounding of float64, so only the
    # run reveals this mutant.
    STALE_GOLDEN: change_files("weights", "onnx", "torchscript"),
}
OUTSIDE: dict[str, Apply] = {
    "a golden reference moved by 2^-22 of its bound": golden(move_reference(2.0**-22)),
    "created edited": forge(lambda m: m.update(created="2000-01-01T00:00:00+00:00")),
    "the figures of the proof edited": forge(
        lambda m: m["proof"].update(rows=m["proof"]["rows"] + 1)
    ),
    "proof.png: the other picture": lambda s: s.replaced(PROOF=s.files[manifest.CURVES]),
}


def _mutants(kind: Kind, prefix: str, edits: dict[str, Apply]) -> list[Mutant]:
    return [Mutant(prefix + name, kind, apply) for name, apply in edits.items()]


MUTANTS = [
    *_mutants("semantic", "weights: ", WEIGHTS),
    *_mutants("semantic", "golden: ", GOLDEN),
    *_mutants("semantic", "manifest: ", MANIFEST),
    *_mutants("semantic", "", OTHER),
    *_mutants("form", "", FORM),
    *_mutants("claim", "claim: ", CLAIMS),
    *_mutants("outside", "outside: ", OUTSIDE),
]
