"""A cache of documents and pages about a version, which are rendered once for all requests."""

import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary

from service.runtime.served_model import ServedModel


class DocumentCache:
    """The bodies of replies by version and path; they are freed together with the version."""

    def __init__(self) -> None:
        self._bodies: WeakKeyDictionary[ServedModel, dict[str, bytes]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, served: ServedModel, path: str, render: Callable[[], bytes]) -> bytes:
        """Return a body; the first request calls `render`, and concurrent requests wait for it."""
        body = self._bodies.get(served, {}).get(path)
        if body is None:
            with self._lock:
                bodies = self._bodies.setdefault(served, {})
                body = bodies.get(path)
                if body is None:
                    body = bodies[path] = render()
        return body
