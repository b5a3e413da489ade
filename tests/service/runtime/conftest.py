"""Fixtures for the tests of service.runtime."""

import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def count_threads() -> Callable[[str], int]:
    """Return a function that counts the threads with a name, except those from before the test."""
    others = set(threading.enumerate())
    return lambda name: sum(t.name == name for t in set(threading.enumerate()) - others)
