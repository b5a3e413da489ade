"""Heartbeats: memory in which each worker shows its supervisor that it runs and has started."""

import mmap
import threading
import time

MAX_INTERVAL_SECONDS = 0.25
"""Maximum number of seconds between two beats of a worker."""
BEATS_PER_HANG = 8
"""Minimum number of beats in the time after which a worker counts as hung."""
_BEATS, _STARTED, _CELLS = 0, 1, 2


def beat_interval(hang_seconds: float) -> float:
    """Return the interval of heartbeats in seconds; hang_seconds is the limit for silence."""
    return min(MAX_INTERVAL_SECONDS, hang_seconds / BEATS_PER_HANG)


class Heartbeats:
    """Two counters per row, in memory that all workers share; create it before the fork."""

    def __init__(self, rows: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, rows * _CELLS * 8)).cast("Q")

    def reset(self, row: int) -> None:
        """Clear a row for a new worker."""
        for cell in range(_CELLS):
            self._cells[row * _CELLS + cell] = 0

    def beat(self, row: int, *, has_started: bool) -> None:
        """Show that the worker of a row runs, and whether it accepts connections."""
        self._cells[row * _CELLS + _BEATS] += 1
        self._cells[row * _CELLS + _STARTED] = has_started

    def count(self, row: int) -> int:
        """Return the number of beats of a worker."""
        return self._cells[row * _CELLS + _BEATS]

    def has_started(self, row: int) -> bool:
        """Return whether the worker of a row has started, which means that it accepts connections.

        A worker without a usable artifact has started, although it is not ready.
        """
        return self._cells[row * _CELLS + _STARTED] != 0


class HeartbeatThread(threading.Thread):
    """Beats for a worker as long as its interpreter runs, also while it loads a model.

    Python code that never releases the interpreter lock stops the beats, and so does SIGSTOP.
    """

    def __init__(self, beats: Heartbeats, row: int, interval: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._beats, self._row, self._interval = beats, row, interval
        self._has_application = False

    def confirm_application(self) -> None:
        """Report the worker as started from the next beat on.

        The host accepts connections a few milliseconds after the application is created, or ends
        because it cannot, for example without memory for its threads.
        """
        self._has_application = True

    def run(self) -> None:
        """Beat at a regular interval."""
        while True:
            has_started = self._has_application
            time.sleep(self._interval)
            self._beats.beat(self._row, has_started=has_started)
