"""Models that the protocols answer with."""

import pytest

from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from tests.stored import StoredArtifact

MAX_ROWS = 50


def serve(stored: StoredArtifact) -> ServedModel:
    """Return a stored artifact as the protocols see it."""
    predictor = Predictor(stored.artifact)
    return ServedModel(predictor, predictor.predict, MAX_ROWS)


@pytest.fixture(scope="session")
def classifier(flowers: StoredArtifact) -> ServedModel:
    """The classifier: four features, three classes."""
    return serve(flowers)


@pytest.fixture(scope="session")
def regressor(houses: StoredArtifact) -> ServedModel:
    """The regressor: three features, one target."""
    return serve(houses)
