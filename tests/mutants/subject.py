"""What a mutant is made of, and what it makes: a run, the files published from it, and the runtimes that read them."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from export.proof.expected import Weights
from export.proof.runtimes import Runtime
from model.run import Run
from service.artifact import manifest, storage

Fault = Callable[[Runtime, Weights], Runtime]
"""Makes of a runtime that works one that does not."""


@dataclass(frozen=True)
class Subject:
    """An artifact in memory, with its run, and where it is read."""

    run: Run
    files: Mapping[str, bytes]
    """Every file of it but SHA256SUMS, which is computed anew when it is written."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """By place: `serving`, the session of the host that serves; `onnxruntime` and `torchscript`, where it is proved."""

    @property
    def weights(self) -> Weights:
        """The tensors of the run."""
        return self.run.weights

    def replaced(self, **files: bytes) -> "Subject":
        """Return a subject with other files, by their names in service.manifest."""
        changed = {getattr(manifest, name): content for name, content in files.items()}
        return dataclasses.replace(self, files={**self.files, **changed})

    def document(self, name: str) -> Any:
        """Parse a JSON file."""
        return json.loads(self.files[name])

    def write(self, folder: Path) -> Path:
        """Write it, re-packed: SHA256SUMS is that of its files, so no hash can see what was changed."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        (folder / manifest.SUMS).write_bytes(storage.sha256_sums(self.files))
        return folder


class DoesNotApplyError(Exception):
    """A mutant changes nothing in this network: a bias of one value cannot be permuted."""


Kind = Literal["semantic", "form", "fault", "claim", "outside"]


@dataclass(frozen=True)
class Mutant:
    """One way to be wrong.

    semantic: the function, or what the artifact says of it, is another.
    form: the function is the same, bit for bit or but for rounding, but the file is not what was proved.
    fault: the files are sound, and a runtime is not.
    claim: what nothing in the artifact can contradict, rewritten everywhere; only the run can.
    outside: what not even the run can; no check is expected to.
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
