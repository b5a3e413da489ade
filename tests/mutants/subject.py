"""What a mutant is made from, and what it returns: an artifact in memory, its run, its runtimes."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from export.proof.expected import Weights
from export.proof.runtimes import Runtime
from model.run import Run
from service.artifact import manifest, storage

Fault = Callable[[Runtime, Weights], Runtime]
"""Turns a runtime that works into one that does not."""
Target = TypeVar("Target")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Kind = Literal["semantic", "form", "fault", "claim", "outside"]


def deferred(
    function: Callable[Concatenate[Target, Arguments], Result],
) -> Callable[Arguments, Callable[[Target], Result]]:
    """Turn f(target, *arguments) into f(*arguments), which returns a function of the target."""
    return lambda *args, **options: lambda target: function(target, *args, **options)


@dataclass(frozen=True)
class Subject:
    """An artifact in memory, with its run."""

    run: Run
    files: Mapping[str, bytes]
    """Every file but SHA256SUMS, which is computed when the artifact is written."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """By runtime: `serving`, of a server; `onnxruntime` and `torchscript`, of a proof."""

    @property
    def weights(self) -> Weights:
        """The tensors of the run."""
        return self.run.weights

    def replaced(self, **files: bytes) -> "Subject":
        """Return a subject with other files, by their names in service.artifact.manifest."""
        changed = {getattr(manifest, name): content for name, content in files.items()}
        return dataclasses.replace(self, files={**self.files, **changed})

    def document(self, name: str) -> Any:
        """Parse a JSON file."""
        return json.loads(self.files[name])

    def write(self, folder: Path) -> Path:
        """Write the artifact re-packed: SHA256SUMS fits its files, so no hash sees the mutant."""
        folder.mkdir(parents=True)
        files = {**self.files, manifest.SUMS: storage.sha256_sums(self.files)}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder


class DoesNotApplyError(Exception):
    """A mutant changes nothing in this network: a bias of one value cannot be permuted."""


@dataclass(frozen=True)
class Mutant:
    """One way to be wrong.

    semantic: the function differs, or the artifact describes it wrongly.
    form: the function is the same up to rounding, but the file is not the one that was proved.
    fault: the files are sound, and a runtime is not.
    claim: a false statement that only the run contradicts, in every file that repeats it.
    outside: a false statement that not even the run contradicts; no check is expected to reject it.
    """

    name: str
    kind: Kind
    apply: Callable[[Subject], Subject]
    """Raises DoesNotApplyError."""

    def __call__(self, subject: Subject) -> Subject:
        """Return the mutant of a subject.

        Raises:
            DoesNotApplyError: it would be the subject itself.
        """
        mutated = self.apply(subject)
        if mutated.files == subject.files and mutated.faults == subject.faults:
            raise DoesNotApplyError(self.name)
        return mutated
