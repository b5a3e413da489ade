"""Tests of cli.interruption: SIGINT and SIGTERM raise KeyboardInterrupt, at once or deferred."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cli.interruption import SIGNALS, defer_signals, interrupt_on_signals
from tests.serving import ROOT

BOTH_SIGNALS = pytest.mark.parametrize("number", SIGNALS)
BOTH_BLOCKS = pytest.mark.parametrize("block", [interrupt_on_signals, defer_signals])
Block = Callable[[], AbstractContextManager[list[int]]]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Check that a test leaves the handlers as they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert before == [signal.getsignal(number) for number in SIGNALS]


@BOTH_SIGNALS
def test_signal_interrupts_at_once(number: int) -> None:
    """The first signal interrupts the block; a further SIGTERM does not disturb the clean-up."""

    def run() -> None:
        with interrupt_on_signals() as signals:
            received.append(signals)
            try:
                signal.raise_signal(number)
                pytest.fail("the block went on")
            finally:
                signal.raise_signal(signal.SIGTERM)

    received: list[list[int]] = []
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [[number]] == received


@BOTH_SIGNALS
@pytest.mark.parametrize("leave_early", [False, True])
def test_signal_is_deferred_and_delivered(number: int, leave_early: bool) -> None:
    """The block goes on; at its end, or when it raises KeyboardInterrupt, the handler runs."""

    def run() -> None:
        with interrupt_on_signals() as outer, defer_signals() as inner:
            received.extend([outer, inner])
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGTERM)
            assert [[], [number]] == received
            if leave_early:
                raise KeyboardInterrupt

    received: list[list[int]] = []
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [[number], [number]] == received


def test_handler_that_raises_nothing_does_not_hide_the_interruption() -> None:
    """The code after the block does not run, even if the program's own handler only notes it."""
    numbers = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), defer_signals():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert [signal.SIGTERM] == numbers


def test_error_of_the_block_is_not_hidden() -> None:
    """A deferred signal does not replace an error, such as one of a full disk."""

    def run() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run()


def test_default_action_is_kept() -> None:
    """In a program that does not handle SIGTERM, it still ends the process at once."""
    # A command that another test has run in this process may have set a handler.
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with defer_signals():
            assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)


@BOTH_BLOCKS
def test_other_threads_handle_no_signals(block: Block) -> None:
    """In another thread, which cannot set handlers, the block runs without them."""
    results = []

    def run() -> None:
        with block() as received:
            results.append(received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [[]] == results


@pytest.mark.parametrize("block", ["interrupt_on_signals", "defer_signals"])
def test_second_interrupt_ends_the_process(block: str) -> None:
    """A second Ctrl-C ends the process at once, but not under torchrun."""
    code = f"""if True:
        import signal
        from cli.interruption import {block}
        with {block}():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                print("alive")
    """
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, cwd=ROOT, env={}, capture_output=True)
    assert (-signal.SIGINT, b"") == (child.returncode, child.stdout)
    torchrun = {"TORCHELASTIC_RUN_ID": "1"}  # which sends the signal again
    child = subprocess.run(command, cwd=ROOT, env=torchrun, capture_output=True)
    assert b"alive\n" == child.stdout
