"""Networks with random weights, exported and published as trained networks are."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export import bundle
from model.config import TrainConfig
from model.run import Feature, Run, RunRecord, load_run, net_from_weights, save_run
from model.table.column_statistics import column_statistics
from service.artifact import manifest, storage
from tests.mutants.subject import Subject
from tests.mutants.tensors import B1, B2, W1, W2, Floats

ROW_COUNT = 24
STATISTICS = ("mean", "std", "min", "max", "median")


@dataclass(frozen=True)
class Shape:
    """A network's task and widths."""

    task: Literal["regression", "classification"]
    in_features: int
    hidden_features: int
    out_features: int

    def __str__(self) -> str:
        return f"{self.in_features}-{self.hidden_features}-{self.out_features} {self.task}"

    @property
    def products(self) -> int:
        """Number of multiplications in the first layer for one row."""
        return self.in_features * self.hidden_features


def random_weights(
    shape: Shape,
    rng: np.random.Generator,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
    unit: float,
) -> dict[str, Floats]:
    """Draw the tensors of a network, with weights of variance 1 / fan-in.

    Args:
        shape: the task and the widths.
        rng: the random generator.
        shift: values subtracted from the rows, (in_features,).
        scale: factors applied to the shifted rows, (in_features,).
        unit: scale of a regressor's outputs.
    """
    d, h, out = shape.in_features, shape.hidden_features, shape.out_features
    weights = {
        W1: rng.uniform(-1, 1, (h, d)) * np.sqrt(3 / d),
        B1: rng.uniform(-1, 1, h),
        W2: rng.uniform(-1, 1, (out, h)) * np.sqrt(3 / h),
        B2: rng.uniform(-1, 1, out),
        "shift": shift,
        "scale": scale,
    }
    if shape.task == "regression":
        weights |= {
            "output_scale": rng.uniform(1, 3, out) * unit,
            "output_shift": rng.uniform(-3, 3, out) * unit,
        }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in weights.items()}


def random_run(shape: Shape, folder: Path) -> Run:
    """Write a run of a network with random weights, and load it.

    Where the widths allow, a column is constant (its scale is 0), a weight is subnormal and a bias
    is 0, because a wrong conversion may lose such values.
    """
    rng = np.random.default_rng([0, shape.in_features, shape.hidden_features])
    d = shape.in_features
    mean, std = rng.normal(size=d) * 3, rng.uniform(0.5, 2, d)
    std[1:2] = 0
    rows = (mean + std * rng.normal(size=(ROW_COUNT, d))).astype(np.float32)
    statistics = column_statistics(rows)
    weights = random_weights(shape, rng, statistics.mean, statistics.scale, unit=100)
    if shape.hidden_features > 1:
        weights[W2][0, 1] = 1e-40
        weights[B1][1] = 0
    else:  # keeps the only hidden unit active for small inputs of either sign
        weights[B1][0] = 0.25
    folder.mkdir(parents=True)
    columns = zip(*(getattr(statistics, name).tolist() for name in STATISTICS), strict=True)
    features = tuple(
        Feature(name=f"f{i}", kind="float", **dict(zip(STATISTICS, column, strict=True)))
        for i, column in enumerate(columns)
    )
    save_run(folder, _record(shape, features), net_from_weights(weights), rows)
    (folder / manifest.CURVES).write_bytes(picture())
    return load_run(folder)


def _record(shape: Shape, features: tuple[Feature, ...]) -> RunRecord:
    classifies = shape.task == "classification"
    outputs = range(shape.out_features)
    quality = {"accuracy": 0.9} if classifies else {"r2": 0.9}
    return RunRecord(
        name=str(shape).replace(" ", "-"),
        created="2026-01-01T00:00:00+00:00",
        task=shape.task,
        features=features,
        targets=("class",) if classifies else tuple(f"t{i}" for i in outputs),
        classes=tuple(f"c{i}" for i in outputs) if classifies else (),
        config=TrainConfig(hidden_features=shape.hidden_features),
        device="cpu",
        threads=1,
        rows={"train": 80, "validation": 10, "test": 10},
        best_epoch=1,
        history=(),
        metrics=dict.fromkeys(("train", "validation", "test"), quality),
        baselines={"constant": dict.fromkeys(quality, 0.5), "linear": dict.fromkeys(quality, 0.8)},
        notes=(),
        versions={},
    )


def publish(shape: Shape, folder: Path) -> Subject:
    """Publish a random network of this shape as `python -m export build` does."""
    run = random_run(shape, folder / "runs" / str(shape) / "1")
    return subject_of(run, bundle.build(run, folder / "artifacts").path)


def subject_of(run: Run, artifact: Path) -> Subject:
    """Return a published artifact and its run as a Subject."""
    return Subject(run=run, files=dict(storage.read_artifact(artifact).files))


def picture() -> bytes:
    """Return a PNG of one black pixel."""
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "PNG")
    return png.getvalue()
