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
    """Starts a further worker of a slot; raises OSError if that fails."""
    is_ready: Callable[[Worker], bool]
    """Returns whether a worker that has started can predict."""
    retire: Callable[[Worker], object]
    """Lets a worker answer the requests on its connections, and stops it later."""
    stop: Callable[[Worker], object]
    """Stops a successor that is not ready."""

    def __post_init__(self) -> None:
        self._pending = iter(self.slots)
        self._successor: Worker | None = None
        self._retired: Worker | None = None

    def advance(self) -> bool:
        """Take the steps that are due; return whether all workers have been replaced.

        Raises:
            ReplacementError: a successor ended, is not ready, or cannot be started.
        """
        if self._retired and not self._retired.has_ended:
            return False
        if self._successor is None:
            slot = next(self._pending, None)
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
            self._hand_over(self._successor)
        return False

    def _hand_over(self, successor: Worker) -> None:
        if not self.is_ready(successor):
            self.stop(successor)
            raise ReplacementError(f"the new {successor} has no usable artifact")
        slot = successor.slot
        self._retired, slot.worker = slot.worker, successor
        self._successor = None
        if self._retired:
            self.retire(self._retired)
