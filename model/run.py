"""A run: a finished fit, stored in `runs/<name>/<number>/`. No file is a pickle.

weights.safetensors   the parameters and buffers of the ScaledNet
rows.safetensors      up to 256 raw validation rows, which the export uses as test inputs
run.json              a RunRecord
curves.png            a plot of the losses
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from cli.staging import folder_numbers
from model.config import TrainConfig, lists_as_tuples
from model.errors import DataError
from model.fit.loop import Epoch
from model.metrics import Metrics
from model.net import ScaledClassifier, ScaledNet, ScaledRegressor, TwoLayerNet
from model.table.dataset import ClassValue, Float32Array, Kind, Source, Task
from tabular.names import near_miss

FORMAT_VERSION = 1
MAX_SAVED_ROWS = 256
"""Maximum number of validation rows in rows.safetensors."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature column, with the statistics of its raw values over the training rows."""

    name: str
    kind: Kind
    min: float
    max: float
    mean: float
    median: float
    std: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of run.json: everything about a run except its tensors."""

    format_version: int = FORMAT_VERSION
    name: str
    created: str
    """Time of creation, ISO 8601 in UTC."""
    task: Task
    features: tuple[Feature, ...]
    targets: tuple[str, ...]
    classes: tuple[ClassValue, ...]
    config: TrainConfig
    device: str
    threads: int
    rows: dict[str, int]
    """Number of rows in each part of the split."""
    best_epoch: int
    history: tuple[Epoch, ...]
    metrics: Metrics
    """Metrics of the network, by part of the split."""
    baselines: Metrics
    """Metrics of the baselines on the test rows."""
    notes: tuple[str, ...]
    """Inferred properties of the data, warnings, and the error if the loss diverged."""
    versions: dict[str, str]
    source: Source | None = None
    """Origin of the data; None if they come from Python or the run is of an older version."""

    @property
    def out_features(self) -> int:
        """Width of the network's last layer."""
        return len(self.classes) or len(self.targets)


@dataclass(frozen=True)
class Run:
    """A run, as read from disk."""

    path: Path
    record: RunRecord
    content: bytes
    """Content of weights.safetensors."""
    rows: Float32Array
    """Raw validation rows, (rows, in_features)."""

    @functools.cached_property
    def weights(self) -> Mapping[str, Float32Array]:
        """Tensors of the ScaledNet by name."""
        tensors = safetensors.numpy.load(self.content)
        return {name: values.astype(np.float32) for name, values in tensors.items()}


def save_run(folder: Path, record: RunRecord, net: ScaledNet, rows: Float32Array) -> None:
    """Write the files of a run, except curves.png, into an existing folder."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}
    saved_rows = {"validation": np.ascontiguousarray(rows[:MAX_SAVED_ROWS])}
    # write_bytes() raises an OSError if the disk is full; save_file() of safetensors does not.
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(weights))
    (folder / "rows.safetensors").write_bytes(safetensors.numpy.save(saved_rows))
    document = json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "run.json").write_text(document + "\n", encoding="utf-8")


def load_run(path: Path) -> Run:
    """Read and check the run in a folder; raise a DataError if it is incomplete or inconsistent."""
    try:
        text = (path / "run.json").read_text(encoding="utf-8")
        content = (path / "weights.safetensors").read_bytes()
        rows = safetensors.numpy.load((path / "rows.safetensors").read_bytes())["validation"]
        run = Run(path, _parse_record(text), content, rows)
        _check_shapes(run)
        _check_record(run.record)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise DataError(f"{path}: not a complete run, {missing} is missing") from None
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable run: {' '.join(str(error).split())}") from None
    return run


def _parse_record(text: str) -> RunRecord:
    document = json.loads(text, object_hook=lists_as_tuples)
    if (version := document["format_version"]) != FORMAT_VERSION:
        raise ValueError(f"run.json: expected format_version {FORMAT_VERSION}, found {version}")
    document["features"] = tuple(Feature(**feature) for feature in document["features"])
    document["history"] = tuple(Epoch(**epoch) for epoch in document["history"])
    document["config"] = TrainConfig(**document["config"])
    if source := document.get("source"):
        document["source"] = Source(**source)
    return RunRecord(**document)


def _check_shapes(run: Run) -> None:
    """Raise a ValueError if the shapes of the weights, the rows and the record do not match."""
    net = net_from_weights(run.weights)
    width, classification = len(run.record.features), run.record.task == "classification"
    inputs = len(net.shift), len(net.scale), net.net.linear1.in_features, run.rows.shape[1:]
    outputs = net.net.linear2.out_features, isinstance(net, ScaledClassifier)
    expected_outputs = run.record.out_features, classification
    expected_inputs = width, width, width, (width,)
    if inputs != expected_inputs or outputs != expected_outputs or not len(run.rows):
        raise ValueError("weights, rows and run.json do not match")


def _check_record(record: RunRecord) -> None:
    """Raise a ValueError if a value in the record cannot be used."""
    for feature in record.features:
        values = feature.min, feature.median, feature.max, feature.mean, feature.std
        finite = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
        if not finite or feature.min > feature.max:
            expected = "expected finite statistics with min <= max"
            raise ValueError(f"run.json: feature {feature.name!r}: {expected}")
    for part in ("train", "validation", "test"):
        metrics = record.metrics.get(part) if isinstance(record.metrics, dict) else None
        if not isinstance(metrics, dict):
            raise ValueError(f"run.json: metrics: expected those of the {part} rows, found none")
    if not re.fullmatch(r"[a-z0-9_-]+", record.name):
        raise ValueError(f"run.json: expected a name of [a-z0-9_-], found {record.name!r}")


def newest_run(root: Path) -> Path:
    """Return the folder of the newest run in root, or raise a DataError if there is none."""
    runs = [parent / str(number) for parent in root.glob("*") for number in folder_numbers(parent)]
    if not runs:
        raise DataError(f"{root}: no complete run; train one first (python -m model train)")
    return max(runs, key=lambda run: (run / "run.json").stat().st_mtime_ns)


def find_run(text: str) -> Path:
    """Return the path if it is a run, else its newest run; raise a DataError if there is none."""
    path = Path(text)
    if not path.is_dir():
        folders = [str(folder) for folder in path.parent.glob("*") if folder.is_dir()]
        raise DataError(f"{text}: no such run{near_miss(text, folders)}")
    if (path / "run.json").exists():
        return path
    if numbers := folder_numbers(path):
        return path / str(numbers[-1])
    raise DataError(f"{text}: not a run, run.json is missing")


def net_from_weights(weights: Mapping[str, Float32Array]) -> ScaledNet:
    """Return a network with these tensors, by name, on the CPU and in eval mode."""
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    hidden_features, in_features = weights["net.linear1.weight"].shape
    with torch.random.fork_rng(devices=[]):  # The initial weights are replaced below.
        inner = TwoLayerNet(in_features, hidden_features, len(weights["net.linear2.bias"]))
    net: ScaledNet = ScaledClassifier(inner, tensors["shift"], tensors["scale"])
    if "output_scale" in tensors:
        outputs = tensors["output_scale"], tensors["output_shift"]
        net = ScaledRegressor(inner, net.shift, net.scale, *outputs)
    net.load_state_dict(tensors)
    return net.eval()
