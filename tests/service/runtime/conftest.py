"""Fixtures of the runtime's tests."""

import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def count_threads() -> Callable[[str], int]:
    """Return a function that counts the threads of a name that this test started."""
    others = set(threading.enumerate())
    return lambda name: sum(t.name == name for t in set(threading.enumerate()) - others)
