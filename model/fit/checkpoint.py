"""A fit that was interrupted, on disk: one file, `runs/<name>/resume-<settings>.safetensors`, its JSON in the header.

It stands beside the numbered runs, as a number is a finished run. Two fits of one name differ in their settings, and
so in their files; with the same settings they are the same fit.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cli.staging import replace_file
from model.config import TrainConfig
from model.errors import DataError
from model.fit.devices import process_share
from model.fit.loop import Epoch, FitState
from model.table.dataset import Table, Task

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What a person asked for, enough to ask again."""

    source: str
    """A bundled data set, or a file's absolute path."""
    targets: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    task: Task | None = None
    name: str | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An interrupted fit, between two epochs."""

    path: Path
    request: TrainRequest
    config: TrainConfig
    threads: int
    processes: int
    table_sha256: str
    history: tuple[Epoch, ...]
    tensors: dict[str, Tensor]

    def refuse_other(self, table: Table) -> None:
        """Raise a DataError unless the table, and the number of processes, are those that the fit was begun with."""
        if table_sha256(table) != self.table_sha256:
            raise DataError(
                f"{self.path}: the data have changed since the fit was begun; start it anew"
            )
        if process_share().processes != self.processes:
            raise DataError(
                f"{self.path}: expected {self.processes} processes, found {process_share().processes}"
            )

    def restore(self, state: FitState) -> None:
        """Bring a new fit to where this one stood; DataError where it is not of the same network."""
        try:
            state.restore(self.tensors, self.history)
        except (
            ValueError,
            RuntimeError,
        ) as error:  # a damaged generator's state is torch's RuntimeError
            raise DataError(f"{self.path}: {error}") from None


class CheckpointWriter:
    """Keeps one fit's file up to date."""

    def __init__(
        self,
        runs: Path,
        table: Table,
        request: TrainRequest,
        config: TrainConfig,
        threads: int,
        seconds: float,
    ) -> None:
        self.table, self.request, self.config, self.threads = table, request, config, threads
        self.seconds = seconds
        """Between two saves."""
        settings = json.dumps(
            [dataclasses.asdict(request), dataclasses.asdict(config)], sort_keys=True
        )
        self.path = (
            runs
            / table.name
            / f"resume-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.safetensors"
        )
        self.epochs = 0
        """Of the fit that the file holds; 0 before it is saved."""
        self._sha256 = ""

    def save(self, state: FitState) -> None:
        """Write the state, complete or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self._sha256 = self._sha256 or table_sha256(self.table)
        document = {
            "format_version": FORMAT_VERSION,
            "request": dataclasses.asdict(self.request),
            "config": dataclasses.asdict(self.config),
            "threads": self.threads,
            "processes": process_share().processes,
            "table_sha256": self._sha256,
            "history": [dataclasses.astuple(epoch) for epoch in state.history],
        }
        text, tensors = json.dumps(document), state.tensors()
        replace_file(
            self.path,
            safetensors.torch.save(tensors, {"fit": text, "sha256": _checksum(text, tensors)}),
        )
        self.epochs = len(state.history)

    def forget(self) -> None:
        """Remove the file: the fit is complete."""
        self.path.unlink(missing_ok=True)


def newest_checkpoint(runs: Path, name: str | None = None) -> Checkpoint:
    """Read the fit under `runs` that was interrupted last, of the run's name if one is given.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    found = []
    for path in runs.glob(f"{name or '*'}/resume-*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # its fit has just been completed
            found.append((path.stat().st_mtime_ns, path))
    if not found:
        raise DataError(f"{runs / name if name else runs}: no interrupted fit to resume")
    return load_checkpoint(max(found)[1])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read an interrupted fit.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 # not a dictionary
        if header["sha256"] != _checksum(header["fit"], tensors):
            raise ValueError("its checksum does not hold")
        document: dict[str, Any] = json.loads(header["fit"])
        version = document["format_version"]
        unfinished = _checkpoint(path, document, tensors) if version == FORMAT_VERSION else None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(
            f"{path}: not a readable interrupted fit: {' '.join(str(error).split())}"
        ) from None
    if unfinished is None:
        raise DataError(f"{path}: expected format_version {FORMAT_VERSION}, found {version}")
    return unfinished


def table_sha256(table: Table) -> str:
    """Return the SHA-256 of all that a fit reads of a table, in hexadecimal."""
    described = [
        table.task,
        table.features,
        table.kinds,
        table.targets,
        table.classes,
        table.x.shape,
        table.y.shape,
    ]
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(np.ascontiguousarray(table.x).data)
    digest.update(np.ascontiguousarray(table.y).data)
    return digest.hexdigest()


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].cpu().numpy().tobytes())
    return digest.hexdigest()


def _checkpoint(path: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    request = document["request"]
    return Checkpoint(
        path=path,
        request=TrainRequest(**request | {key: tuple(request[key]) for key in ("targets", "drop")}),
        config=TrainConfig.of(document["config"]),
        threads=document["threads"],
        processes=document["processes"],
        table_sha256=document["table_sha256"],
        history=tuple(Epoch(*row) for row in document["history"]),
        tensors=tensors,
    )
