"""A version of the artifact that is ready to evaluate requests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from service.artifact.manifest import ArtifactError
from service.errors import BadInput
from service.observe.metrics import WorkerMetrics
from service.runtime.batcher import Batcher, batching_pays
from service.runtime.predictor import Predictor
from service.runtime.session import Outputs, Rows, all_finite
from service.settings import ServiceSettings


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded version, and the function that evaluates the rows of a request with it."""

    predictor: Predictor
    run: Callable[[Rows], Outputs]
    """predictor.predict with metrics, or a Batcher that calls it."""
    max_rows: int
    """Maximum number of rows in one request."""
    is_batched: bool = False
    """Whether `run` is a Batcher, whose queue and deadline replace those of Admission."""

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the features in the order of the network's columns."""
        return tuple(feature.name for feature in self.predictor.manifest.features)

    def infer(self, rows: Rows, place: Callable[[int], str]) -> Outputs:
        """Evaluate rows and check that the outputs are finite.

        Args:
            rows: finite float32 values of shape (batch, in_features).
            place: function from the index of a row to its location in the request.

        Raises:
            BadInput: an output overflows float32.
            Refused: 503, the deadline passed before the rows were evaluated.
        """
        outputs = self.run(rows)
        # The first output comes from the last layer; probabilities and labels are computed from it.
        first = next(iter(outputs.values()))
        if not all_finite(first):
            row = int(np.isfinite(first).all(axis=1).argmin())
            detail = "the values are too large: the network's output for this row overflows float32"
            raise BadInput(detail, where=place(row))
        return outputs


def load_served_model(path: Path, settings: ServiceSettings, metrics: WorkerMetrics) -> ServedModel:
    """Load and check a version folder, and evaluate one row as a warm-up.

    Raises:
        ArtifactError: Predictor rejects the artifact, or max_elements is too small for one row.
    """
    predictor = Predictor(path, threads=settings.threads or 1, expect_digest=settings.expect_digest)
    features = predictor.manifest.features
    if len(features) > settings.max_elements:
        expected = f"max_elements of at least {len(features)}, the number of features"
        raise ArtifactError(f"{path}: expected {expected}, found {settings.max_elements}")
    predictor.predict(np.array([[feature.median for feature in features]], np.float32))

    def run(rows: Rows) -> Outputs:
        metrics.count_run(len(rows))
        return predictor.predict(rows)

    max_rows = min(settings.max_rows, settings.max_elements // len(features))
    too_small = settings.batching == "auto" and not batching_pays(predictor.weight_bytes)
    if too_small or settings.batching == "off":
        return ServedModel(predictor, run, max_rows)
    batcher = Batcher(
        predictor.predict,
        max_rows=settings.batch_rows,
        wait_seconds=settings.batch_wait_ms / 1000,
        deadline_seconds=settings.queue_seconds,
        on_batch=metrics.count_run,
        on_wait=metrics.count_wait,
    )
    return ServedModel(predictor, batcher, max_rows, is_batched=True)
