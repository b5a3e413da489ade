"""The events of a chaos run: a log file, and the connections that each event may break."""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.chaos.load import BrokenConnection


class Hit(NamedTuple):
    """A worker that an event killed or stopped, with the client's ports of its connections."""

    seconds: float
    """Time of the event on the clock time.monotonic()."""
    ports: frozenset[int]


class Journal:
    """A log of events, one JSON object a line, and the hits on workers."""

    def __init__(self, path: Path) -> None:
        self.path, self.counts, self.hits = path, Counter[str](), list[Hit]()
        self._lock, self._start = threading.Lock(), time.monotonic()

    def write(self, event: str, **details: object) -> None:
        """Log an event with the seconds since the start."""
        line = {"seconds": self.age(time.monotonic()), "event": event, **details}
        with self._lock, self.path.open("a") as file:
            self.counts[event] += 1
            file.write(json.dumps(line) + "\n")

    def age(self, moment: float) -> float:
        """Return the seconds from the start to a moment on the clock time.monotonic()."""
        return round(moment - self._start, 3)

    def add_hit(self, ports: set[int]) -> None:
        """Record a hit on a worker now."""
        self.hits.append(Hit(time.monotonic(), frozenset(ports)))

    def explains(self, broken: BrokenConnection) -> bool:
        """Return whether a hit may have broken a connection, which ended after the hit."""
        return any(
            broken.local_port in hit.ports and hit.seconds <= broken.seconds for hit in self.hits
        )
