"""The checks of a server, of `export verify` and of `export build`, each callable on its own.

This module contains no checks of its own: each entry calls the function that a command calls.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch

from export import bundle, verification
from export.errors import ProofError
from export.golden import golden_document, golden_rows
from export.proof import numerical, onnx_structure, prove, runtimes, torchscript_structure
from export.proof.bound import Float32Array, Reference, probable_gamma, reference
from export.proof.expected import Weights, task_of
from export.proof.hard_inputs import Case, hard_inputs
from export.proof.runtimes import Runtime
from export.to_torchscript import check_code, load_torchscript
from model.run import net_from_weights
from service.artifact import manifest, onnx_scan
from service.artifact.manifest import ArtifactError, Feature, Manifest
from service.artifact.storage import Artifact
from service.runtime import check, self_test, session
from service.runtime.predictor import Predictor
from service.runtime.session import Session
from tests.mutants.subject import Fault, Subject

Check = Callable[[Subject], object]
Result = TypeVar("Result")
REJECTIONS = (ArtifactError, ProofError)
TRACEBACK = "TRACEBACK"
"""Prefix of the message for an exception not in REJECTIONS; such an exception is a defect."""


class UnreadableError(Exception):
    """A check cannot run, because it needs a file that another check rejects as invalid."""


def _read(reader: Callable[..., Result], *arguments: object) -> Result:
    """Call a reader that is itself a check; raise UnreadableError if it rejects the file."""
    try:
        return reader(*arguments)
    except REJECTIONS:
        raise UnreadableError from None


_parse_manifest = functools.lru_cache(maxsize=4)(Manifest.from_json)
_read_weights = functools.lru_cache(maxsize=4)(verification.read_weights)


def _manifest(subject: Subject) -> Manifest:
    return _read(_parse_manifest, subject.files[manifest.MANIFEST])


def _weights(subject: Subject) -> Weights:
    return _read(_read_weights, subject.files[manifest.WEIGHTS])


def _open_session(subject: Subject, runtime: str = "serving") -> Session:
    """Open the serving session without the scan that precedes it, and apply the fault."""
    with patch.object(session, "scan_onnx", lambda content: {}):
        opened = Session(subject.files[manifest.MODEL])
    if fault := subject.faults.get(runtime):
        opened.run = fault(opened.run, subject.weights)  # type: ignore[method-assign, assignment] # returns a Mapping
    return opened


def _session(subject: Subject) -> Session:
    return _read(_open_session, subject)


def _module(subject: Subject) -> torch.jit.ScriptModule:
    return _read(load_torchscript, subject.files[manifest.TORCHSCRIPT])


def _artifact(subject: Subject) -> Artifact:
    return Artifact(Path("nowhere/1"), "", _manifest(subject), subject.files)


def _onnx_model(subject: Subject) -> Any:
    return _read(onnx_structure.parse_onnx, subject.files[manifest.MODEL])


def _check_pictures(subject: Subject) -> None:
    for name in (manifest.CURVES, manifest.PROOF):
        verification.check_picture(name, subject.files[name])


def _check_run(subject: Subject) -> None:
    """Compare an artifact with its run, as `export build` does before it publishes."""
    curves = (subject.run.path / manifest.CURVES).read_bytes()
    files = {manifest.WEIGHTS: subject.run.content, manifest.CURVES: curves}
    if not bundle.is_unchanged(_artifact(subject), files, subject.run):
        raise ProofError("the artifact differs from what export publishes for the run")


@functools.lru_cache(maxsize=4)
def _references(
    weights: bytes, features: tuple[Feature, ...]
) -> list[tuple[Case, Reference, Mapping[str, np.ndarray]]]:
    """Evaluate the hard inputs of `export verify` in float64; mutants share cached results."""
    tensors = _read_weights(weights)
    return [
        (case, reference(tensors, case.rows), reference(tensors, case.rows, probable_gamma).bounds)
        for case in hard_inputs(features, _rows(tensors, features))
    ]


def _rows(tensors: Weights, features: tuple[Feature, ...]) -> Float32Array:
    return np.array(golden_document(tensors, golden_rows(features))["input"], np.float32)


def _on_runtime(name: str, test: Callable[[str, Runtime, Subject], object]) -> Check:
    """Return a check of one runtime; any exception of the runtime fails the check."""

    def run(subject: Subject) -> None:
        weights = _weights(subject)
        _manifest(subject)
        if name == runtimes.SERVING_RUNTIME:
            runtime: Runtime = _read(_open_session, subject, name).run
        else:
            outputs = list(manifest.OUTPUTS[task_of(weights)])
            runtime = runtimes.torch_runtime(_module(subject), outputs)
            if fault := subject.faults.get(name):
                runtime = fault(runtime, subject.weights)
        try:
            test(name, runtime, subject)
        except REJECTIONS:
            raise
        except Exception as error:
            raise ProofError(f"{name}: {type(error).__name__}") from None

    return run


def _check_bound(name: str, runtime: Runtime, subject: Subject) -> None:
    weights, features = subject.files[manifest.WEIGHTS], _manifest(subject).features
    for case, expected, probable in _references(weights, features):
        outputs = runtime(case.rows)
        for comparison in numerical.compare_outputs(case, name, outputs, expected, probable):
            if not comparison.passed:
                raise ProofError(numerical.describe_failure(comparison))


def _check_contagion(name: str, runtime: Runtime, subject: Subject) -> None:
    rows = _rows(_weights(subject), _manifest(subject).features)
    numerical.check_nonfinite_rows(name, runtime, rows)


LOAD: dict[str, Check] = {
    "schema": lambda s: Manifest.from_json(s.files[manifest.MANIFEST]),
    "scan": lambda s: onnx_scan.scan_onnx(s.files[manifest.MODEL]),
    "opens": _open_session,
    "signature": lambda s: self_test.check_signature(_session(s), _manifest(s)),
    "golden": lambda s: self_test.check_golden_rows(_session(s), s.files[manifest.GOLDEN]),
}
"""The checks of a server, which need neither torch nor onnx."""
PROOF: dict[str, Check] = {
    "weights": lambda s: verification.read_weights(s.files[manifest.WEIGHTS]),
    "description": lambda s: verification.check_description(_manifest(s), _weights(s)),
    "derived": lambda s: verification.check_derived_files(_artifact(s)),
    "golden derived": lambda s: verification.check_golden(
        s.files[manifest.GOLDEN], _manifest(s), _weights(s)
    ),
    "pictures": _check_pictures,
    "code": lambda s: check_code(s.files[manifest.TORCHSCRIPT], net_from_weights(_weights(s))),
    "structure, onnx": lambda s: onnx_structure.check_structure(_onnx_model(s), _weights(s)),
    "canonical bytes, onnx": lambda s: onnx_structure.check_canonical_bytes(
        _onnx_model(s), s.files[manifest.MODEL]
    ),
    "structure, torchscript": lambda s: torchscript_structure.prove_torchscript(
        _module(s), _weights(s)
    ),
    **{
        f"{test}, {name}": _on_runtime(name, function)
        for test, function in (("bound", _check_bound), ("contagion", _check_contagion))
        for name in ("onnxruntime", "torchscript")
    },
}
"""The additional checks of `export verify`, which use only the artifact."""
RUN: dict[str, Check] = {"run": _check_run}
"""The additional check of `export build`, which also uses the run."""
VERIFY = {**LOAD, **PROOF}
CHECKS = {**VERIFY, **RUN}
COMMANDS = {"serve": LOAD, "verify": VERIFY, "build": CHECKS}
"""Checks by command, in the order in which the command runs them."""


class _Recorder(dict[str, bytes]):
    """Files by name; the attribute `read` holds those that a check has read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.read: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        self.read[name] = super().__getitem__(name)
        return self.read[name]


class Cache:
    """Results of checks, reused for mutants in which the files that a check reads are the same."""

    def __init__(self) -> None:
        self._messages: dict[
            str, list[tuple[Mapping[str, bytes], Mapping[str, Fault], str | None]]
        ] = {name: [] for name in CHECKS}

    def rejections(
        self, subject: Subject, names: Iterable[str] = CHECKS
    ) -> Iterator[tuple[str, str]]:
        """Run each check separately; yield the name and message of each check that rejects.

        Tracebacks are omitted, because a command would have stopped at an earlier check.
        """
        for name in names:
            message = self._message(name, subject)
            if message and not message.startswith(TRACEBACK):
                yield name, message

    def _message(self, name: str, subject: Subject) -> str | None:
        for read, faults, message in self._messages[name]:
            if faults == subject.faults and all(
                content == subject.files[file] for file, content in read.items()
            ):
                return message
        files = _Recorder(subject.files)
        message = _rejection(CHECKS[name], dataclasses.replace(subject, files=files))
        self._messages[name].append((files.read, subject.faults, message))
        return message


def _rejection(check: Check, subject: Subject) -> str | None:
    try:
        check(subject)
    except UnreadableError:
        return None
    except REJECTIONS as error:
        return str(error)
    except Exception as error:
        return f"{TRACEBACK} {type(error).__name__}: {error}"
    return None


def run_commands(subject: Subject, folder: Path) -> dict[str, str]:
    """Write the artifact and run the real commands; return the rejections by command."""
    path = subject.write(folder / "1")

    def open_faulty(*arguments: Any) -> tuple[dict[str, Runtime], dict[str, str]]:
        opened, left_out = runtimes.open_runtimes(*arguments)
        faulty = {n: fault(opened[n], subject.weights) for n, fault in subject.faults.items()}
        return {**opened, **faulty}, left_out

    functions: dict[str, Callable[[Subject], object]] = {
        "serve": lambda _: Predictor(path),
        "check": lambda _: check.check_artifact(path),
        "verify": lambda _: verification.verify(path),
    }
    with patch.object(prove, "open_runtimes", open_faulty):
        messages = {name: _rejection(function, subject) for name, function in functions.items()}
    return {name: message for name, message in messages.items() if message is not None}
