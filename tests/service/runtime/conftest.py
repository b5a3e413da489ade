"""Fixtures for the tests of service.runtime."""

import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def count_threads() -> Callable[[str], int]:
    """Return a function that counts the threads of a given name started since the test began."""
    others = set(threading.enumerate())
    return lambda name: sum(t.name == name for t in set(threading.enumerate()) - others)
