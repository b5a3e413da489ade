"""The server that the clients connect to."""

from collections.abc import Iterator

import numpy as np
import pytest

from service.runtime.predictor import Predictor
from service.runtime.session import Outputs
from tests.serving import Server, free_port, granian, serving
from tests.stored import FLOWERS

ROWS = np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999], [5, 5, 5, 2003]], np.float32)
LIMITS = {"TWOLAYERNET_MAX_ROWS": "100", "TWOLAYERNET_MAX_BODY_BYTES": "10000"}


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    """The classifier on a real socket, with small limits."""
    port = free_port()
    with serving(granian(FLOWERS.artifact, port, "--no-access-log"), port, LIMITS) as server:
        yield server


@pytest.fixture(scope="package")
def expected() -> Outputs:
    """The artifact's outputs for ROWS."""
    return Predictor(FLOWERS.artifact).predict(ROWS)
