"""Served: a version of the artifact that answers, and how rows reach it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.payload import BadInput, all_finite
from service.predictor import Outputs, Predictor, Rows


@dataclass(frozen=True, eq=False)
class Served:
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
