"""The replacement of all workers after SIGHUP, one at a time, without a failed request."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.host.slots import Slot, Worker


class ReplacementError(Exception):
    """A successor cannot take over; the message says why."""


@dataclass(eq=False)
class Replacement:
    """Starts a successor beside each worker; when it is ready, the worker is retired.

    The next successor starts when the retired worker has ended.
    """

    slots: Iterable[Slot]
    start: Callable[[Slot], Worker]
    """Starts a worker that ends unless it is ready to predict; raises OSError if that fails."""
    retire: Callable[[Worker], object]
    """Lets a worker answer the requests on its connections, and stops it later."""

    def __post_init__(self) -> None:
        self._pending_slots = iter(self.slots)
        self._successor: Worker | None = None
        self._retired_worker: Worker | None = None

    def advance(self) -> bool:
        """Take the steps that are due; return whether all workers have been replaced.

        Raises:
            ReplacementError: a successor ended before it was ready, or cannot be started.
        """
        if self._retired_worker and not self._retired_worker.has_ended:
            return False
        if self._successor is None:
            slot = next(self._pending_slots, None)
            if slot is None:
                return True
            try:
                self._successor = self.start(slot)
            except OSError as error:
                message = f"worker {slot.number} cannot be started: {error}"
                raise ReplacementError(message) from None
        elif self._successor.has_ended:
            raise ReplacementError(f"the new {self._successor} ended before it was ready")
        elif self._successor.has_started:
            slot = self._successor.slot
            self._retired_worker, slot.worker, self._successor = slot.worker, self._successor, None
            if self._retired_worker:
                self.retire(self._retired_worker)
        return False
