"""Checkpoints: the state of an unfinished fit, stored in `runs/<name>/resume-<hash>.safetensors`.

The hash is computed from the settings, so fits of one name with different settings do not overwrite
each other's checkpoints. The header of the file holds the settings and the history as JSON.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cli.staging import replace_file
from model.config import TrainConfig, lists_as_tuples
from model.errors import DataError
from model.fit.devices import process_share
from model.fit.loop import Epoch, FitState
from model.table.dataset import Table, Task

FORMAT_VERSION = 2
"""Version of the format. The rows of version 1 were split, and its targets scaled, differently."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The options of the train command that determine its table and its device."""

    source: str
    """Name of a bundled data set, or absolute path of a file."""
    targets: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    task: Task | None = None
    name: str | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of an unfinished fit, as read from its file."""

    path: Path
    request: TrainRequest
    config: TrainConfig
    threads: int
    processes: int
    table_sha256: str
    history: tuple[Epoch, ...]
    tensors: dict[str, Tensor]

    def check_resumable(self, table: Table) -> None:
        """Raise a DataError if the table or the number of processes differs from the fit's."""
        if table_sha256(table) != self.table_sha256:
            raise DataError(f"{self.path}: the data have changed; start a new fit")
        processes = process_share().processes
        if processes != self.processes:
            raise DataError(f"{self.path}: expected {self.processes} processes, found {processes}")

    def restore(self, state: FitState) -> None:
        """Copy this checkpoint into state; raise a DataError if it is damaged or does not fit."""
        try:
            state.restore(self.tensors, self.history)
        # torch raises a RuntimeError for a damaged state of the generator.
        except (ValueError, RuntimeError) as error:
            raise DataError(f"{self.path}: {error}") from None


class CheckpointWriter:
    """Writes the checkpoints of one fit to one file, each replacing the previous one."""

    def __init__(
        self,
        runs: Path,
        table: Table,
        request: TrainRequest,
        config: TrainConfig,
        threads: int,
        interval_seconds: float,
    ) -> None:
        self.table, self.threads, self.interval_seconds = table, threads, interval_seconds
        self.settings = [dataclasses.asdict(request), dataclasses.asdict(config)]
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.path = runs / table.name / f"resume-{digest[:8]}.safetensors"
        self.progress = 0, 0
        """Number of epochs in the file, and of steps of the next one; 0, 0 if there is no file."""
        self._sha256, self._saved_at = "", time.monotonic()

    def save_if_due(self, state: FitState) -> None:
        """Save the state if the interval since the last checkpoint has passed."""
        if time.monotonic() - self._saved_at >= self.interval_seconds:
            self.save(state)

    def save(self, state: FitState) -> None:
        """Replace the file atomically by a checkpoint of the state, unless it holds this state."""
        progress = len(state.history), len(state.losses)
        if progress == self.progress:
            return
        self._sha256 = self._sha256 or table_sha256(self.table)
        request, config = self.settings
        document = {
            "format_version": FORMAT_VERSION,
            "request": request,
            "config": config,
            "threads": self.threads,
            "processes": process_share().processes,
            "table_sha256": self._sha256,
            "history": [dataclasses.astuple(epoch) for epoch in state.history],
        }
        text, tensors = json.dumps(document), state.tensors()
        header = {"fit": text, "sha256": checksum(text, tensors)}
        replace_file(self.path, safetensors.torch.save(tensors, header))
        self.progress, self._saved_at = progress, time.monotonic()


def describe_progress(epochs: int, steps: int, total: int) -> str:
    """Return how far a fit of `total` epochs is: complete epochs, and steps of the next one."""
    partial = f" and {steps} steps of the next" if steps else ""
    return f"{epochs} of {total} epochs{partial}"


def newest_checkpoint(runs: Path, name: str | None = None) -> Checkpoint:
    """Read the newest checkpoint of one name, or of all; raise a DataError if there is none."""
    times = []
    for path in runs.glob(f"{name or '*'}/resume-*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # a fit that completes deletes its file
            times.append((path.stat().st_mtime_ns, path))
    if not times:
        raise DataError(f"{runs / name if name else runs}: no checkpoint to resume")
    return load_checkpoint(max(times)[1])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raise a DataError if it is damaged or has another format version."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 # no dict
        text = header["fit"]
        if header["sha256"] != checksum(text, tensors):
            raise ValueError("wrong checksum")
        document = json.loads(text, object_hook=lists_as_tuples)
        if (version := document["format_version"]) != FORMAT_VERSION:
            versions = f"expected format_version {FORMAT_VERSION}, found {version}"
            raise ValueError(f"{versions}; start a new fit")
        return Checkpoint(
            path=path,
            request=TrainRequest(**document["request"]),
            config=TrainConfig(**document["config"]),
            threads=document["threads"],
            processes=document["processes"],
            table_sha256=document["table_sha256"],
            history=tuple(Epoch(*row) for row in document["history"]),
            tensors=tensors,
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable checkpoint: {reason}") from None


def table_sha256(table: Table) -> str:
    """Return the hexadecimal SHA-256 of everything in a table that affects a fit."""
    columns = [table.task, table.features, table.kinds, table.targets, table.classes]
    description = [*columns, table.x.shape, table.y.shape]
    digest = hashlib.sha256(json.dumps(description).encode())
    digest.update(np.ascontiguousarray(table.x).data)
    digest.update(np.ascontiguousarray(table.y).data)
    return digest.hexdigest()


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of the header's JSON text and of the tensors."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].cpu().numpy().tobytes())
    return digest.hexdigest()
