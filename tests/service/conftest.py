"""Fixtures for the tests of the service."""

import pytest
from flask import Flask

from service.settings import ServiceSettings
from service.web.app import create_app
from tests.stored import StoredArtifact


@pytest.fixture(scope="session")
def app(flowers: StoredArtifact) -> Flask:
    """The application that serves the classifier."""
    return create_app(ServiceSettings(artifact=flowers.artifact, max_body_bytes=100_000))
