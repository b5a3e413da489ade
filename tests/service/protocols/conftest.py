"""Fixtures: the served models that the tests of the protocols use."""

import pytest

from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from tests.stored import StoredArtifact

MAX_ROWS = 50


def serve(stored: StoredArtifact) -> ServedModel:
    """Return the served model of a stored artifact."""
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
