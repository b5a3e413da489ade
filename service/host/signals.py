"""A pipe that delivers signals, so that one call can wait for signals and for processes."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)


@dataclass(frozen=True)
class SignalPipe:
    """The read end of a pipe to which each signal adds its number as one byte."""

    descriptor: int
    has_terminal: bool
    """Whether the process had a terminal when the pipe was opened."""

    def read(self) -> list[int]:
        """Return the numbers of the signals that have arrived; block while there are none.

        Closing the terminal also sends SIGHUP; in that case, SIGHUP is returned as SIGINT.
        """
        numbers = list(os.read(self.descriptor, 64))  # the pipe keeps further signals
        if signal.SIGHUP in numbers and self.has_terminal and not has_terminal():
            return [signal.SIGINT if number == signal.SIGHUP else number for number in numbers]
        return numbers


@contextlib.contextmanager
def open_signal_pipe() -> Iterator[SignalPipe]:
    """Redirect SIGTERM, SIGINT and SIGHUP into a pipe until the context ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous = {
        number: signal.signal(number, lambda number, frame: None)
        for number in HANDLED_SIGNALS
        # Under nohup the process ignores SIGHUP and must continue to do so.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield SignalPipe(reader, has_terminal())
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
