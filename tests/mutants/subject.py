"""The Subject, an artifact in memory, and the Mutant, which changes it in one way."""

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
"""Function from a correct runtime and its weights to a faulty runtime."""
Target = TypeVar("Target")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Kind = Literal["semantic", "form", "fault", "claim", "outside"]


def defer(
    function: Callable[Concatenate[Target, Arguments], Result],
) -> Callable[Arguments, Callable[[Target], Result]]:
    """Turn f(target, *arguments) into f(*arguments), which returns a function of the target."""
    return lambda *args, **options: lambda target: function(target, *args, **options)


@dataclass(frozen=True)
class Subject:
    """An artifact in memory, its run, and faults of the runtimes that evaluate it."""

    run: Run
    files: Mapping[str, bytes]
    """Contents by file name, without SHA256SUMS, which write() computes."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """Faults by runtime: `serving` in a server, `onnxruntime` and `torchscript` in a proof."""

    @property
    def weights(self) -> Weights:
        """The tensors of the run."""
        return self.run.weights

    def replaced(self, **files: bytes) -> "Subject":
        """Return a copy with other files; keywords are constants of service.artifact.manifest."""
        changed = {getattr(manifest, name): content for name, content in files.items()}
        return dataclasses.replace(self, files={**self.files, **changed})

    def document(self, name: str) -> Any:
        """Return the parsed JSON of a file."""
        return json.loads(self.files[name])

    def write(self, folder: Path) -> Path:
        """Write the artifact with a SHA256SUMS that matches its files, and return the folder."""
        folder.mkdir(parents=True)
        files = {**self.files, manifest.SUMS: storage.sha256_sums(self.files)}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder


class DoesNotApplyError(Exception):
    """A mutant cannot change this network; for example, a bias of one value cannot be permuted."""


@dataclass(frozen=True)
class Mutant:
    """A change that makes an artifact wrong, of one of these kinds.

    semantic: the outputs differ, or the artifact describes them wrongly.
    form: the outputs are the same up to rounding, but export would not write this file.
    fault: the files are correct, but a runtime computes wrong outputs.
    claim: a false statement, repeated consistently in all files, that only the run contradicts.
    outside: a false statement that even the run does not contradict, so no check rejects it.
    """

    name: str
    kind: Kind
    apply: Callable[[Subject], Subject]
    """Function that returns the mutated subject, or raises DoesNotApplyError."""

    def __call__(self, subject: Subject) -> Subject:
        """Return the mutant of a subject.

        Raises:
            DoesNotApplyError: the mutant would equal the subject.
        """
        mutated = self.apply(subject)
        if mutated.files == subject.files and mutated.faults == subject.faults:
            raise DoesNotApplyError(self.name)
        return mutated
