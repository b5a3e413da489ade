"""Tests of service.host.supervisor with fake workers, clock and sockets."""

import logging
import signal
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from unittest.mock import Mock

import pytest

from service.host.supervisor import MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS, Supervisor
from service.settings import SettingsError

DRAIN_SECONDS, GRACE_SECONDS = 2.0, 6.0


class World:
    """A supervisor whose workers have started, and its fake processes, clock and sockets."""

    def __init__(self, workers: int = 2, check_reload: Callable[[], None] = lambda: None) -> None:
        """Start the workers."""
        self.time = 100.0
        self.processes: list[Mock] = []  # All workers, in the order of their start.
        self.workers: dict[int, Mock] = {}  # The last worker of each slot.
        self.start_error: OSError | None = None
        self.exits: list[int] = []
        self.on_drain = Mock()
        self.listeners = [Mock(spec=socket.socket) for _ in range(workers)]
        self.supervisor = Supervisor(
            self.listeners,
            self.start,
            on_drain=self.on_drain,
            on_worker_exit=self.exits.append,
            check_reload=check_reload,
            drain_seconds=DRAIN_SECONDS,
            grace_seconds=GRACE_SECONDS,
            clock=lambda: self.time,
        )
        self.supervisor.advance()

    def start(self, slot: int) -> Mock:
        """Return a fake process whose join() fails while it runs, or raise start_error."""
        if self.start_error:
            raise self.start_error
        number = len(self.processes)
        process = Mock(spec=BaseProcess, pid=1000 + number, sentinel=number, exitcode=None)

        def kill() -> None:
            process.exitcode = -signal.SIGKILL

        def join() -> None:
            assert process.exitcode is not None, "the supervisor waits for a live worker"

        process.kill.side_effect, process.join.side_effect = kill, join
        self.processes.append(process)
        self.workers[slot] = process
        return process

    def wait(self, seconds: float) -> None:
        """Advance the clock and the supervisor."""
        self.time += seconds
        self.supervisor.advance()

    def exit(self, slot: int, code: int) -> None:
        """End the worker of a slot with an exit code."""
        self.workers[slot].exitcode = code
        self.supervisor.reap([self.workers[slot].sentinel])
        self.supervisor.advance()

    def send(self, *numbers: int) -> None:
        """Pass signals to the supervisor, one after the other."""
        for number in numbers:
            self.supervisor.handle_signal(number)
            self.supervisor.advance()


def test_a_worker_that_dies_is_replaced_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A new worker takes the slot; the log has one line; the other worker is unaffected."""
    world = World()
    other = world.workers[1]
    world.wait(60.0)
    world.exit(0, -signal.SIGKILL)
    assert (3, 2) == (len(world.processes), world.workers[0].sentinel)
    assert other is world.workers[1]
    world.processes[0].join.assert_called_once_with()
    world.processes[0].close.assert_called_once_with()
    assert [0] == world.exits
    assert [
        "worker 0 (process 1000) ended after 60.0 s: signal 9 (Killed); the next one starts now"
    ] == [record.getMessage() for record in caplog.records]
    assert world.supervisor.seconds_until_due() is None


def test_back_off_after_early_deaths() -> None:
    """The pause doubles up to a maximum; a worker that runs long enough resets the pause.

    From the second early death on, the slot's listener is shut down, so no connection waits there.
    """
    world = World(workers=1)
    for deaths in range(1, 10):
        world.exit(0, 1)
        pause = min(MIN_BACKOFF_SECONDS * 2 ** (deaths - 1), MAX_BACKOFF_SECONDS)
        assert pytest.approx(pause) == world.supervisor.seconds_until_due()
        assert deaths - 1 == world.listeners[0].shutdown.call_count
        world.wait(pause - 0.001)
        assert deaths == len(world.processes)
        world.wait(0.002)
        assert deaths + 1 == len(world.processes)
    world.listeners[0].shutdown.assert_called_with(socket.SHUT_RDWR)
    world.wait(60.0)
    world.exit(0, 1)
    world.exit(0, 1)
    assert pytest.approx(MIN_BACKOFF_SECONDS) == world.supervisor.seconds_until_due()


def test_a_worker_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """If a fork fails, the log has a line, and the start is retried after a pause."""
    world = World(workers=1)
    world.wait(60.0)
    world.start_error = OSError("Cannot allocate memory")
    world.exit(0, -signal.SIGKILL)
    assert "worker 0 cannot be started: Cannot allocate memory; next try in 0.1 s" in caplog.text
    world.start_error = None
    world.wait(MIN_BACKOFF_SECONDS)
    assert 2 == len(world.processes)


def test_drain_and_stop() -> None:
    """After SIGTERM the workers drain and then stop; SIGHUP and deaths start no workers."""
    world = World()
    world.send(signal.SIGTERM, signal.SIGHUP)
    world.on_drain.assert_called_once_with()
    assert DRAIN_SECONDS == world.supervisor.seconds_until_due()
    world.exit(0, -signal.SIGKILL)
    world.wait(DRAIN_SECONDS - 0.001)
    world.workers[1].terminate.assert_not_called()
    world.wait(0.002)
    world.workers[1].terminate.assert_called_once_with()
    assert all(listener.close.called for listener in world.listeners)
    assert not world.supervisor.is_finished()
    world.exit(1, 0)
    assert world.supervisor.is_finished()
    assert 2 == len(world.processes)


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_stop_without_drain(numbers: list[int]) -> None:
    """SIGINT or a second SIGTERM stops at once; after the grace period the workers are killed."""
    world = World(workers=1)
    world.send(*numbers)
    world.workers[0].terminate.assert_called_once_with()
    assert GRACE_SECONDS == world.supervisor.seconds_until_due()
    world.wait(GRACE_SECONDS - 0.001)
    assert not world.supervisor.is_finished()
    world.wait(0.002)
    world.workers[0].kill.assert_called_once_with()
    assert world.supervisor.is_finished()


def test_a_second_interrupt_skips_the_grace_period() -> None:
    """After a second SIGINT the workers are killed at once."""
    world = World(workers=1)
    world.send(signal.SIGINT, signal.SIGINT)
    world.workers[0].kill.assert_called_once_with()
    assert world.supervisor.is_finished()


def test_sighup_replaces_the_workers(caplog: pytest.LogCaptureFixture) -> None:
    """Each worker is replaced when it exits, without back-off, or killed after the grace period."""
    world = World()
    old = dict(world.workers)
    world.send(signal.SIGHUP)
    for process in old.values():
        process.terminate.assert_called_once_with()
    world.exit(0, 0)
    assert world.workers[0] is not old[0]
    world.wait(GRACE_SECONDS)
    old[1].kill.assert_called_once_with()
    assert world.workers[1] is not old[1]
    assert 4 == len(world.processes)
    assert logging.ERROR not in {record.levelno for record in caplog.records}


@pytest.mark.parametrize("error", [SettingsError("no pair"), OSError("no file")])
def test_sighup_with_broken_files(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """If the files for new workers are invalid, the old workers continue."""
    world = World(workers=1, check_reload=Mock(side_effect=error))
    world.send(signal.SIGHUP)
    world.workers[0].terminate.assert_not_called()
    assert f"SIGHUP: {error}; the workers are not replaced" in caplog.text


def test_a_later_signal_does_not_postpone_the_kill() -> None:
    """The grace period of a worker starts with the first signal that stops it."""
    world = World(workers=1)
    world.send(signal.SIGHUP)
    world.wait(GRACE_SECONDS - 1.0)
    world.send(signal.SIGINT)
    assert 1.0 == world.supervisor.seconds_until_due()
