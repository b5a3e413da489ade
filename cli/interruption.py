"""SIGINT and SIGTERM as KeyboardInterrupt, raised at once or when the program is ready for it.

After the first signal, a further SIGINT ends the process at once. A further SIGTERM is ignored,
because launchers such as `timeout` send it twice, and it must not disturb the clean-up. Under
torchrun a further SIGINT is ignored too: torchrun sends it to every process, which may know of it
already from another process, and kills those that have not ended after 30 seconds.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupt_on_signals() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt in the block at a signal; yield the list of the received numbers.

    The list shows the signal even if a library replaces KeyboardInterrupt with another error.
    """
    received: list[int] = []

    def interrupt(number: int) -> None:
        received.append(number)
        raise KeyboardInterrupt

    with _on_first_signal(interrupt):
        yield received


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Collect signals during the block; yield the list of the received numbers.

    After the block, the first signal is delivered to its previous handler, and KeyboardInterrupt is
    raised, unless the block has raised another error. A signal without a handler in Python is not
    deferred, nor is any signal if this is not the main thread.
    """
    received: list[int] = []
    try:
        with _on_first_signal(received.append, only_handled=True):
            yield received
    except KeyboardInterrupt:
        if not received:
            raise
    if received:
        signal.raise_signal(received[0])
        raise KeyboardInterrupt


@contextlib.contextmanager
def _on_first_signal(
    react: Callable[[int], object], *, only_handled: bool = False
) -> Iterator[None]:
    """Call react with the number of the first signal; restore the handlers after the block."""

    def handle(number: int, frame: FrameType | None) -> None:
        for other in previous:
            signal.signal(other, further_sigint if other == signal.SIGINT else signal.SIG_IGN)
        react(number)

    is_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    further_sigint = signal.SIG_IGN if is_torchrun else signal.SIG_DFL
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread():
        previous = {}  # Only the main thread may set handlers.
    if only_handled:
        previous = {number: handler for number, handler in previous.items() if callable(handler)}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
