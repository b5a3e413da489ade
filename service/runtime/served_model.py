"""Served: a version of the artifact that answers, and how rows reach it; load() makes it from a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from service.artifact.manifest import ArtifactError
from service.errors import BadInput
from service.observe.metrics import WorkerMetrics
from service.runtime.batcher import Batcher, batching_pays
from service.runtime.finite import all_finite
from service.runtime.predictor import Predictor
from service.runtime.session import Outputs, Rows
from service.settings import ServiceSettings


@dataclass(frozen=True, eq=False)
class ServedModel:
    """What a dialect is given beside the request."""

    predictor: Predictor
    run: Callable[[Rows], Outputs]
    """predictor.predict, or the micro-batcher in front of it."""
    most_rows: int
    """In one request."""
    joins: bool = False
    """Whether `run` has a queue of its own, and a deadline on it: then all that are inside wait there."""

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The features' names, in the order of the network's columns."""
        return tuple(feature.name for feature in self.predictor.manifest.features)

    def infer(self, rows: Rows, place: str = "instances[{}]") -> Outputs:
        """Evaluate rows, (batch, in_features) float32, to finite answers.

        Args:
            rows: finite.
            place: how a row is called in the request, by its number.

        Raises:
            BadInput: a finite row has no finite answer: no such number leaves the service.
            Refused: 503, the row waited for too long.
        """
        outputs = self.run(rows)
        first = next(iter(outputs.values()))  # the network's own; probabilities follow from them
        if not all_finite(first):
            row = int(np.isfinite(first).all(axis=1).argmin())
            detail = "the values are too large: the network's answer to this row overflows float32"
            raise BadInput(detail, where=place.format(row))
        return outputs


def load_served_model(path: Path, settings: ServiceSettings, figures: WorkerMetrics) -> ServedModel:
    """Load artifacts/<name>/<version>, its hashes and golden rows checked, and evaluate a first row.

    Raises:
        ArtifactError: it is not whole, not the digest expected, does not reproduce its golden rows, or has more
            features than a request may hold numbers.
    """
    predictor = Predictor(path, threads=settings.threads or 1, expect_digest=settings.expect_digest)
    features = predictor.manifest.features
    if len(features) > settings.max_elements:
        raise ArtifactError(
            f"{path}: max_elements: expected {len(features)}, one row, or more, found {settings.max_elements}"
        )
    predictor.predict(np.array([[feature.median for feature in features]], np.float32))

    def run(rows: Rows) -> Outputs:
        figures.ran(len(rows))
        return predictor.predict(rows)

    most_rows = min(settings.max_rows, settings.max_elements // len(features))
    if settings.batching == "off" or (
        settings.batching == "auto" and not batching_pays(predictor.weight_bytes)
    ):
        return ServedModel(predictor, run, most_rows)
    wait_seconds = settings.batch_wait_ms / 1000
    joined = Batcher(
        predictor.predict,
        settings.batch_rows,
        wait_seconds,
        settings.queue_seconds,
        figures.ran,
        figures.waits,
    )
    return ServedModel(predictor, joined, most_rows, joins=True)
