"""A run on disk: `runs/<name>/<n>/` with weights, run.json and curves. Never a pickle.

weights.safetensors   the parameters and buffers of the ScaledNet
rows.safetensors      up to 256 real validation rows, for the proof at export; never published
run.json              a RunRecord
curves.png            the losses
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from cli.staging import numbered
from model.config import TrainConfig
from model.errors import DataError
from model.fit.loop import Epoch
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.table.dataset import ClassValue, Float32Array, Kind, Task
from tabular.names import near_miss

FORMAT_VERSION = 1
MAX_KEPT_ROWS = 256
Metrics = dict[str, dict[str, float]]
"""By part (train, validation, test, or a baseline), then by metric."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column of the training rows, in its own units."""

    name: str
    kind: Kind
    min: float
    max: float
    mean: float
    median: float
    std: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What run.json holds: everything about a run but its numbers."""

    format_version: int = FORMAT_VERSION
    name: str
    created: str
    """ISO 8601, UTC."""
    task: Task
    features: tuple[Feature, ...]
    targets: tuple[str, ...]
    classes: tuple[ClassValue, ...]
    config: TrainConfig
    device: str
    threads: int
    rows: dict[str, int]
    """Rows of each part of the split."""
    best_epoch: int
    history: tuple[Epoch, ...]
    metrics: Metrics
    baselines: Metrics
    """Metrics on the test rows, by baseline."""
    notes: tuple[str, ...]
    versions: dict[str, str]

    @property
    def out_features(self) -> int:
        """The width of the network's last layer."""
        return len(self.classes) or len(self.targets)


@dataclass(frozen=True)
class Run:
    """A finished run, as export reads it."""

    path: Path
    record: RunRecord
    content: bytes
    """The bytes of weights.safetensors."""
    rows: Float32Array
    """(rows, in_features): real validation rows."""

    @functools.cached_property
    def weights(self) -> Mapping[str, Float32Array]:
        """The tensors of the ScaledNet by name."""
        return {
            name: values.astype(np.float32)
            for name, values in safetensors.numpy.load(self.content).items()
        }


def save_run(folder: Path, record: RunRecord, net: ScaledNet, rows: Float32Array) -> None:
    """Write a run's files, all but curves.png, into an existing folder."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}
    kept = {"validation": np.ascontiguousarray(rows[:MAX_KEPT_ROWS])}
    # Bytes first, then a plain write: a full disk is then an OSError.
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(weights))
    (folder / "rows.safetensors").write_bytes(safetensors.numpy.save(kept))
    document = json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "run.json").write_text(document + "\n", encoding="utf-8")


def load_run(path: Path) -> Run:
    """Read a run.

    Raises:
        DataError: something is missing, cannot be read, or does not fit the rest, in one line.
    """
    try:
        document = json.loads((path / "run.json").read_text(encoding="utf-8"))
        content = (path / "weights.safetensors").read_bytes()
        rows = safetensors.numpy.load((path / "rows.safetensors").read_bytes())["validation"]
        version = document["format_version"]
        run = Run(path, _record(document), content, rows) if version == FORMAT_VERSION else None
        net = net_from_weights(run.weights) if run else None
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: not a complete run, {Path(error.filename).name} is missing"
        ) from None
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable run: {' '.join(str(error).split())}") from None
    if run is None or net is None:
        raise DataError(
            f"{path}/run.json: expected format_version {FORMAT_VERSION}, found {version}"
        )
    in_features, out_features = net.net.linear1.in_features, net.net.linear2.out_features
    found = (
        len(net.shift),
        len(net.scale),
        rows.shape[1:],
        out_features,
        isinstance(net, ScaledClassifier),
    )
    width, classifies = len(run.record.features), run.record.task == "classification"
    if (
        (width, width, (width,), run.record.out_features, classifies) != found
        or in_features != width
        or not len(rows)
    ):
        raise DataError(f"{path}: weights, rows and run.json are not of one network")
    for feature in run.record.features:
        values = feature.min, feature.median, feature.max, feature.mean, feature.std
        if (
            not all(isinstance(v, int | float) and math.isfinite(v) for v in values)
            or feature.min > feature.max
        ):
            raise DataError(
                f"{path}/run.json: feature {feature.name!r}: expected finite figures in order, found others"
            )
    for part in ("train", "validation", "test"):
        if not isinstance(run.record.metrics, dict) or not isinstance(
            run.record.metrics.get(part), dict
        ):
            raise DataError(
                f"{path}/run.json: metrics: expected those of the {part} rows, found none"
            )
    if not re.fullmatch(r"[a-z0-9_-]+", run.record.name):
        raise DataError(
            f"{path}/run.json: expected a name of [a-z0-9_-], found {run.record.name!r}"
        )
    return run


def newest_run(root: Path) -> Path:
    """Return the run in `root/<name>/<n>` that was finished last."""
    runs = [parent / str(number) for parent in root.glob("*") for number in numbered(parent)]
    if not runs:
        raise DataError(f"{root}: no complete run; train one first (python -m model train)")
    return max(runs, key=lambda run: (run / "run.json").stat().st_mtime_ns)


def find_run(text: str) -> Path:
    """Resolve runs/<name>/<n>, or runs/<name> for the newest run of that name."""
    path = Path(text)
    if not path.is_dir():
        known = [str(run) for run in path.parent.glob("*") if run.is_dir()]
        raise DataError(f"{text}: no such run{near_miss(text, known)}")
    if (path / "run.json").exists():
        return path
    if numbers := numbered(path):
        return path / str(numbers[-1])
    raise DataError(f"{text}: not a run, run.json is missing")


def net_from_weights(weights: Mapping[str, Float32Array]) -> ScaledNet:
    """Rebuild the network from its tensors by name: on the CPU, in eval mode."""
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    hidden_features, in_features = weights["net.linear1.weight"].shape
    inner = TwoLayerNet(in_features, hidden_features, len(weights["net.linear2.bias"]))
    scaling = tensors["shift"], tensors["scale"]
    net = (
        ScaledRegressor(inner, *scaling, tensors["output_scale"], tensors["output_shift"])
        if "output_scale" in tensors
        else ScaledClassifier(inner, *scaling)
    )
    net.load_state_dict(tensors)
    return net.eval()


def _record(document: dict[str, Any]) -> RunRecord:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    fields["features"] = tuple(Feature(**feature) for feature in document["features"])
    fields["history"] = tuple(Epoch(**epoch) for epoch in document["history"])
    fields["config"] = TrainConfig.of(document["config"])
    return RunRecord(**fields)
