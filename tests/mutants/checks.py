"""The project's own checks, each to be asked alone, and the commands that ask them all.

Nothing is checked here: each function calls the one that load, `export verify` or `export build` calls.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError

from export import ProofError, bundle, to_torchscript, verify
from export.golden import golden_document, golden_rows
from export.proof import expected, numerical, onnx_structure, torchscript_structure
from export.proof.bound import Float32Array, Reference, probable_gamma, reference
from export.proof.expected import Weights, task_of
from export.proof.hard_inputs import Case, hard_inputs
from export.proof.runtimes import Outputs, Runtime, _torch_outputs
from export.to_onnx import canonical, serialized
from model.net import ScaledNet
from model.run import net_from_weights
from service.artifact import manifest, onnx_scan
from service.artifact.manifest import ArtifactError, Feature, Manifest
from service.artifact.storage import Artifact
from service.png import check_png
from service.runtime import check, self_test, session
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.mutants.subject import Fault, Subject

Check = Callable[[Subject], None]
REFUSED = (ArtifactError, ProofError)
"""What a check raises; anything else would be a traceback."""


TRACEBACK = "TRACEBACK"
"""How an answer begins that no check should give."""


class SilentError(Exception):
    """A check cannot be asked, because another one's file cannot even be read."""


class _Session(Session):
    """The session that serves, without the scan in front of it, and with a fault behind it."""

    def __init__(self, subject: Subject, place: str) -> None:
        with patch.object(session, "scan_onnx", lambda content: {}):
            super().__init__(subject.files[manifest.MODEL])
        self.answer: Runtime = super().run
        if fault := subject.faults.get(place):
            self.answer = fault(self.answer, subject.weights)

    def run(self, rows: Float32Array) -> session.Outputs:
        return dict(self.answer(rows))


_manifest_of = functools.lru_cache(maxsize=4)(Manifest.from_json)
_weights_of = functools.lru_cache(maxsize=4)(verify.read_weights)


def _session(subject: Subject, place: str) -> _Session:
    try:
        return _Session(subject, place)
    except ArtifactError:
        raise SilentError from None


def _manifest(subject: Subject) -> Manifest:
    try:
        return _manifest_of(subject.files[manifest.MANIFEST])
    except ArtifactError:
        raise SilentError from None


def _tensors(subject: Subject) -> Weights:
    """Return the tensors of weights.safetensors, to which all else is held."""
    try:
        return _weights_of(subject.files[manifest.WEIGHTS])
    except REFUSED:
        raise SilentError from None


def _module(subject: Subject) -> torch.jit.ScriptModule:
    try:
        return to_torchscript.load_torchscript(subject.files[manifest.TORCHSCRIPT])
    except RuntimeError:
        raise SilentError from None


def _schema(subject: Subject) -> None:
    Manifest.from_json(subject.files[manifest.MANIFEST])


def _scan(subject: Subject) -> None:
    onnx_scan.scan_onnx(subject.files[manifest.MODEL])


def _opens(subject: Subject) -> None:
    _Session(subject, "serving")


def _signature(subject: Subject) -> None:
    self_test.check_signature(_session(subject, "serving"), _manifest(subject))


def _golden(subject: Subject) -> None:
    self_test.check_golden_rows(_session(subject, "serving"), subject.files[manifest.GOLDEN])


def _weights(subject: Subject) -> None:
    verify.read_weights(subject.files[manifest.WEIGHTS])


def _description(subject: Subject) -> None:
    verify.check_description(_manifest(subject), _tensors(subject))


def _derived(subject: Subject) -> None:
    nowhere = Artifact(Path("nowhere/1"), "", _manifest(subject), subject.files)
    verify.check_derived(nowhere, _tensors(subject))


def _golden_derived(subject: Subject) -> None:
    verify.check_golden(subject.files[manifest.GOLDEN], _manifest(subject), _tensors(subject))


def _pictures(subject: Subject) -> None:
    for name in (manifest.CURVES, manifest.PROOF):
        check_png(name, subject.files[name])


_write = to_torchscript.to_torchscript
_written: dict[str, bytes] = {}


def written_once(net: ScaledNet) -> bytes:
    """Write TorchScript once per task and widths, on which alone its code depends: it takes a process and seconds."""
    key = str([(name, tensor.shape) for name, tensor in net.state_dict().items()])
    if key not in _written:
        _written[key] = _write(net)
    return _written[key]


def _code(subject: Subject) -> None:
    net = net_from_weights(_tensors(subject))
    with patch.object(to_torchscript, "to_torchscript", written_once):
        to_torchscript.check_code(subject.files[manifest.TORCHSCRIPT], net)


class _Same(bytes):
    """Bytes that are equal to any."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def _structure_onnx(subject: Subject) -> None:
    with patch.object(
        expected, "serialized", lambda model: _Same()
    ):  # without the bytes, which are asked next
        onnx_structure.prove_onnx(subject.files[manifest.MODEL], _tensors(subject))


def _bytes_onnx(subject: Subject) -> None:
    content = subject.files[manifest.MODEL]
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise SilentError from None
    if serialized(canonical(model)) != content:
        raise ProofError("not the canonical bytes")


def _structure_torchscript(subject: Subject) -> None:
    torchscript_structure.prove_torchscript(_module(subject), _tensors(subject))


@functools.lru_cache(maxsize=4)
def _references(
    weights: bytes, features: tuple[Feature, ...]
) -> list[tuple[Case, Reference, Mapping[str, np.ndarray]]]:
    """Evaluate the hard inputs of `export verify` in float64, once for the mutants that share them."""
    tensors = _weights_of(weights)
    cases = hard_inputs(features, _rows(tensors, features))
    return [
        (case, reference(tensors, case.rows), reference(tensors, case.rows, probable_gamma).bounds)
        for case in cases
    ]


def _rows(tensors: Weights, features: tuple[Feature, ...]) -> Float32Array:
    return np.array(golden_document(tensors, golden_rows(features))["input"], np.float32)


def _runtime(subject: Subject, name: str) -> Runtime:
    if name == "onnxruntime":
        return _session(subject, name).run
    module, names = _module(subject), list(manifest.OUTPUTS[task_of(_tensors(subject))])

    def run(x: Float32Array) -> Outputs:
        return _torch_outputs(module, names, x)

    return subject.faults[name](run, subject.weights) if name in subject.faults else run


def _bound(name: str) -> Check:
    def ask(subject: Subject) -> None:
        runtime, features = _runtime(subject, name), _manifest(subject).features
        _tensors(subject)
        try:
            for case, expected, probable in _references(subject.files[manifest.WEIGHTS], features):
                for comparison in numerical.compare_outputs(
                    case, name, runtime(case.rows), expected, probable
                ):
                    if not comparison.passed:
                        raise ProofError(numerical.describe_failure(comparison))
        except (*REFUSED, SilentError):
            raise
        except Exception as error:  # a runtime that falls over does not answer, and a proof that does not end is none
            raise ProofError(f"{name}: {type(error).__name__}") from None

    return ask


def ratios(subject: Subject) -> tuple[float, float]:
    """Return the largest error of model.onnx over the bound, and over the probable bound, on the hard inputs."""
    runtime, features = _runtime(subject, "onnxruntime"), _manifest(subject).features
    found = [
        comparison
        for case, expected, probable in _references(subject.files[manifest.WEIGHTS], features)
        for comparison in numerical.compare_outputs(
            case, "onnxruntime", runtime(case.rows), expected, probable
        )
    ]
    return max(c.max_error_over_bound for c in found), max(
        c.max_error_over_probable_bound for c in found
    )


def _contagion(name: str) -> Check:
    def ask(subject: Subject) -> None:
        runtime, rows = (
            _runtime(subject, name),
            _rows(_tensors(subject), _manifest(subject).features),
        )
        try:
            numerical.check_nonfinite_rows(name, runtime, rows)
        except REFUSED:
            raise
        except Exception as error:
            raise ProofError(f"{name}: {type(error).__name__}") from None

    return ask


def _run(subject: Subject) -> None:
    """Hold the artifact to the run, as `export build` does to see whether it stands published."""
    said, run = _manifest(subject), subject.run
    features = tuple(Feature(**dataclasses.asdict(feature)) for feature in run.record.features)
    held = Artifact(Path("nowhere/1"), "", said, subject.files)
    files = {
        manifest.WEIGHTS: run.content,
        manifest.CURVES: (run.path / manifest.CURVES).read_bytes(),
    }
    if not bundle._is_unchanged(held, files, run, features):
        raise ProofError("it is not what export would publish of the run")


LOAD: dict[str, Check] = {
    "schema": _schema,
    "scan": _scan,
    "opens": _opens,
    "signature": _signature,
    "golden": _golden,
}
"""What every server asks, without torch or onnx."""
PROOF: dict[str, Check] = {
    "weights": _weights,
    "description": _description,
    "derived": _derived,
    "golden derived": _golden_derived,
    "pictures": _pictures,
    "code": _code,
    "structure, onnx": _structure_onnx,
    "canonical bytes, onnx": _bytes_onnx,
    "structure, torchscript": _structure_torchscript,
    "bound, onnxruntime": _bound("onnxruntime"),
    "bound, torchscript": _bound("torchscript"),
    "contagion, onnxruntime": _contagion("onnxruntime"),
    "contagion, torchscript": _contagion("torchscript"),
}
"""What `python -m export verify` asks beside that, of the artifact alone."""
RUN: dict[str, Check] = {"run": _run}
"""What only the run can tell."""
VERIFY = {**LOAD, **PROOF}
CHECKS = {**VERIFY, **RUN}
LINES = {"serve": LOAD, "verify": VERIFY, "all": CHECKS}
"""By who asks: the checks, in order."""


class Memory:
    """What the checks said, by the files that they read: most mutants leave most files as they are."""

    def __init__(self) -> None:
        self._said: dict[
            str, list[tuple[Mapping[str, bytes], Mapping[str, Fault], str | None]]
        ] = {}

    def ask(self, name: str, subject: Subject) -> str | None:
        """Return what a check says against a subject; None where it refuses nothing, or cannot be asked."""
        known = self._said.setdefault(name, [])
        for read, faults, said in known:
            if faults == subject.faults and all(
                content == subject.files[file] for file, content in read.items()
            ):
                return said
        reading = _Reading(subject.files)
        said = _refusal(CHECKS[name], dataclasses.replace(subject, files=reading))
        known.append((reading.read, subject.faults, said))
        return said

    def killers(self, subject: Subject) -> dict[str, str]:
        """Ask every check alone; return what those that refuse say, by check."""
        answers = {name: self.ask(name, subject) for name in CHECKS}
        return {name: said for name, said in answers.items() if said is not None}


class _Reading(Mapping[str, bytes]):
    """Files, and a note of those that were read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self.read: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        self.read[name] = self._files[name]
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _refusal(check: Callable[[Subject], object], subject: Subject) -> str | None:
    try:
        check(subject)
    except SilentError:
        return None
    except REFUSED as error:
        return str(error)
    except Exception as error:  # a defect of the check, to be printed as one
        return f"{TRACEBACK} {type(error).__name__}: {error}"
    return None


def commands(subject: Subject, folder: Path) -> dict[str, str]:
    """Ask the real commands of the artifact on disk, re-packed; return what those that refuse say."""
    path = subject.write(folder / "1")
    asked: dict[str, Callable[[Subject], object]] = {
        "serve": lambda _: Predictor(path),
        "check": lambda _: check.check_artifact(path),
        "verify": lambda _: verify.verify(path),
    }
    with patch.object(to_torchscript, "to_torchscript", written_once):
        answers = {name: _refusal(command, subject) for name, command in asked.items()}
    return {name: said for name, said in answers.items() if said is not None}
