"""The events of a chaos run: a log file, and the connections that each event may break."""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.load import BrokenConnection, Hit

MAX_DELAY_SECONDS = 30.0
"""Maximum time from a hit to the end of a connection; later, another one may have its port."""
MAX_LOGGED_REPLIES = 100
"""Maximum number of wrong replies in the log."""


class Journal:
    """A log of events, one JSON object a line, and the hits on workers."""

    def __init__(self, path: Path) -> None:
        self.path, self.counts, self.hits = path, Counter[str](), list[Hit]()
        self._lock = threading.Lock()

    def write(self, event: str, **details: object) -> None:
        """Log an event with its time on the clock time.monotonic(), in seconds."""
        line = {"seconds": round(time.monotonic(), 3), "event": event, **details}
        with self._lock, self.path.open("a") as file:
            self.counts[event] += 1
            file.write(json.dumps(line) + "\n")

    def write_failures(
        self, wrong: Sequence[str], broken: Sequence[BrokenConnection]
    ) -> list[BrokenConnection]:
        """Log wrong replies and the broken connections that no hit explains; return the latter."""
        for text in wrong[:MAX_LOGGED_REPLIES]:
            self.write("wrong reply", text=text)
        unexplained = [each for each in broken if not self.explains(each.local_port, each.seconds)]
        for error, port, seconds in unexplained:
            self.write("broken connection", error=error, port=port, at=round(seconds, 3))
        return unexplained

    def explains(self, local_port: int, seconds: float) -> bool:
        """Return whether a hit may have ended or delayed a connection, by its end on the clock."""
        return any(
            local_port in hit.ports and hit.seconds <= seconds <= hit.seconds + MAX_DELAY_SECONDS
            for hit in self.hits
        )
