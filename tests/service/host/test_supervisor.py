"""Tests of service.host.supervisor, and of its parts, with fake workers, clock and sockets."""

import logging
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from unittest.mock import Mock

import pytest

from service.host.heartbeat import Heartbeats
from service.host.slots import MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS, STABLE_SECONDS
from service.host.supervisor import Supervisor
from service.settings import SettingsError

DRAIN_SECONDS, GRACE_SECONDS, HANG_SECONDS, START_SECONDS = 2.0, 6.0, 10.0, 60.0
ABANDON_SECONDS = 20.0
CHECK_SECONDS = 1.0
"""Seconds between two calls of the supervisor in World.wait."""


class World:
    """A supervisor whose workers have started, and its fake processes, clock and sockets."""

    def __init__(self, workers: int = 2, check_reload: Callable[[], None] = lambda: None) -> None:
        """Start the workers."""
        self.time = 100.0
        self.processes: list[Mock] = []  # All workers, in the order of their start.
        self.rows: dict[int, Mock] = {}  # The last worker of each row.
        self.is_starting = False  # Whether new workers stay in the state "starting".
        self.hung: set[Mock] = set()
        self.not_ready: set[int] = set()  # Rows of workers without a usable artifact.
        self.start_error: OSError | None = None
        self.exits: list[int] = []
        self.retired: list[Mock] = []
        self.on_drain = Mock()
        self.listeners = [Mock(spec=socket.socket) for _ in range(workers)]
        self.heartbeats = Heartbeats(2 * workers)
        self.supervisor = Supervisor(
            self.listeners,
            self.start,
            self.heartbeats,
            is_ready=lambda row: row not in self.not_ready,
            retire_worker=lambda row, process: self.retired.append(self.rows[row]),
            on_drain=self.on_drain,
            on_worker_exit=self.exits.append,
            check_reload=check_reload,
            drain_seconds=DRAIN_SECONDS,
            grace_seconds=GRACE_SECONDS,
            hang_seconds=HANG_SECONDS,
            start_seconds=START_SECONDS,
            abandon_seconds=ABANDON_SECONDS,
            clock=lambda: self.time,
        )
        self.supervisor.advance()
        self.wait(0.0)

    def start(self, row: int) -> Mock:
        """Return a fake process whose join() fails while it runs, or raise start_error."""
        if self.start_error:
            raise self.start_error
        number = len(self.processes)
        process = Mock(spec=BaseProcess, pid=1000 + number, sentinel=number, exitcode=None)
        process.is_starting = self.is_starting

        def kill() -> None:
            process.exitcode = -signal.SIGKILL

        def join() -> None:
            assert process.exitcode is not None, "the supervisor waits for a live worker"

        process.kill.side_effect, process.join.side_effect = kill, join
        self.processes.append(process)
        self.rows[row] = process
        return process

    def running(self) -> list[Mock]:
        """Return the workers that have not ended, in the order of their start."""
        return [process for process in self.processes if process.exitcode is None]

    def wait(self, seconds: float) -> None:
        """Let the clock, the workers' heartbeats and the supervisor run for some time."""
        end = self.time + seconds
        while True:
            self.time = min(end, self.time + CHECK_SECONDS)
            for row, process in self.rows.items():
                if process.exitcode is None and process not in self.hung:
                    self.heartbeats.beat(row, has_started=not process.is_starting)
            self.supervisor.advance()
            self.supervisor.reap([p.sentinel for p in self.processes if p.exitcode is not None])
            self.supervisor.advance()
            if self.time == end:
                return

    def exit(self, process: Mock, code: int) -> None:
        """End a worker with an exit code."""
        process.exitcode = code
        self.supervisor.reap([process.sentinel])
        self.supervisor.advance()

    def send(self, *numbers: int) -> None:
        """Pass signals to the supervisor, one after the other."""
        for number in numbers:
            self.supervisor.handle_signal(number)
            self.wait(0.0)


def test_a_worker_that_dies_is_replaced_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A new worker takes the slot; the log has one line; the other worker is unaffected."""
    world = World()
    first, other = world.processes
    world.wait(60.0)
    world.exit(first, -signal.SIGKILL)
    assert [other, world.processes[2]] == world.running()
    first.join.assert_called_once_with()
    first.close.assert_called_once_with()
    assert [0] == world.exits
    assert [
        "worker 0 (process 1000) ended after 60.0 s: signal 9 (Killed); the next one starts now"
    ] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("seconds", [0.1, 30.0])
def test_back_off_after_failed_starts(seconds: float) -> None:
    """However long it takes to start, a worker that ends before delays the next one.

    The pause doubles up to a maximum. No pause shuts the listener down, which would break it.
    """
    world = World(workers=1)
    world.wait(STABLE_SECONDS)
    world.is_starting = True
    world.exit(world.processes[-1], 1)
    for failures in range(10):
        world.wait(seconds)
        world.exit(world.processes[-1], 1)
        pause = min(MIN_BACKOFF_SECONDS * 2**failures, MAX_BACKOFF_SECONDS)
        assert 2 + failures == len(world.processes)
        world.wait(pause - 0.001)
        assert 2 + failures == len(world.processes)
        world.wait(0.002)
        assert 3 + failures == len(world.processes)
    world.listeners[0].shutdown.assert_not_called()
    world.listeners[0].close.assert_not_called()


def test_back_off_of_workers_that_die_soon_after_their_start() -> None:
    """The first such death has no consequence; a worker that runs long enough ends the series."""
    world = World(workers=1)
    for pause in (0.0, 2 * MIN_BACKOFF_SECONDS, 4 * MIN_BACKOFF_SECONDS):
        count = len(world.processes)
        world.exit(world.processes[-1], -signal.SIGSEGV)
        assert count + (pause == 0.0) == len(world.processes)
        world.wait(pause)
        assert count + 1 == len(world.processes)
        world.wait(STABLE_SECONDS / 2)
    world.wait(STABLE_SECONDS)
    world.exit(world.processes[-1], -signal.SIGSEGV)
    world.wait(1.0)
    world.exit(world.processes[-1], -signal.SIGSEGV)
    assert 6 == len(world.processes)


def test_a_worker_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """If a fork fails, the log has a line, and the start is retried after a pause."""
    world = World(workers=1)
    world.wait(60.0)
    world.start_error = OSError("Cannot allocate memory")
    world.exit(world.processes[0], -signal.SIGKILL)
    assert "worker 0 cannot be started: Cannot allocate memory; next try in 0.1 s" in caplog.text
    world.start_error = None
    world.wait(MIN_BACKOFF_SECONDS)
    assert 2 == len(world.processes)


def test_failing_slots_get_no_new_connections() -> None:
    """A slot in back-off gets connections again as soon as its worker has started."""
    world = World()
    attach = world.listeners[0].setsockopt
    world.is_starting = True
    world.exit(world.processes[1], 1)
    world.exit(world.processes[2], 1)
    assert 1 == attach.call_count
    world.is_starting = False
    world.wait(2 * CHECK_SECONDS)
    assert 2 == attach.call_count


@pytest.mark.skipif(sys.platform != "linux", reason="other systems share one socket")
@pytest.mark.parametrize(("fail_all", "calls"), [(False, True), (True, False)])
def test_queued_connections_of_a_failing_slot(fail_all: bool, calls: bool) -> None:
    """They are closed after a time, unless there is no other worker to connect to."""
    world = World()
    accept = world.listeners[1].accept
    accept.side_effect = BlockingIOError
    world.is_starting = True
    for process in world.processes[0 if fail_all else 1 :]:
        world.exit(process, 1)
    for process in world.processes[2:]:
        world.exit(process, 1)
    for _ in range(int(ABANDON_SECONDS)):
        accept.assert_not_called()
        world.wait(CHECK_SECONDS)
        world.exit(world.processes[-1], 1)
    assert calls == accept.called


def test_a_hung_worker_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    """A worker without heartbeats is killed after `hang_seconds`, and replaced."""
    world = World()
    first, other = world.processes
    world.hung.add(first)
    world.wait(HANG_SECONDS - 1.0)
    first.kill.assert_not_called()
    world.wait(2.0)
    first.kill.assert_called_once_with()
    assert [other, world.processes[2]] == world.running()
    assert "worker 0 (process 1000) has not responded for 10.0 s; it is killed" in caplog.text


def test_a_worker_that_never_starts_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    """Heartbeats keep a worker alive that needs long to start, but not for ever."""
    world = World()
    world.is_starting = True
    world.exit(world.processes[0], -signal.SIGKILL)
    world.wait(START_SECONDS - 1.0)
    assert 2 == len(world.running())
    world.wait(2.0)
    world.processes[2].kill.assert_called_once_with()
    assert "worker 0 (process 1002) has not started within 60 s; it is killed" in caplog.text


def test_a_suspended_supervisor_kills_no_worker() -> None:
    """After a pause of the whole machine or of the supervisor, silence is counted from then on."""
    world = World()
    world.is_starting = True
    world.exit(world.processes[0], -signal.SIGKILL)
    world.time += 3600.0
    world.supervisor.advance()
    world.supervisor.advance()
    assert 2 == len(world.running())
    world.wait(HANG_SECONDS)
    assert 2 == len(world.running())
    assert 3 == len(world.processes)


def test_drain_and_stop() -> None:
    """After SIGTERM the workers drain and then stop; SIGHUP and deaths start no workers."""
    world = World()
    first, second = world.processes
    world.send(signal.SIGTERM, signal.SIGHUP)
    world.on_drain.assert_called_once_with()
    world.exit(first, -signal.SIGKILL)
    world.wait(DRAIN_SECONDS - 0.001)
    second.terminate.assert_not_called()
    world.wait(0.002)
    second.terminate.assert_called_once_with()
    assert all(listener.close.called for listener in world.listeners)
    assert not world.supervisor.is_finished()
    world.exit(second, 0)
    assert world.supervisor.is_finished()
    assert 2 == len(world.processes)


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_stop_without_drain(numbers: list[int]) -> None:
    """SIGINT or a second SIGTERM stops at once; after the grace period the workers are killed."""
    world = World(workers=1)
    (worker,) = world.processes
    world.send(*numbers)
    worker.terminate.assert_called_once_with()
    world.wait(GRACE_SECONDS - 0.001)
    assert not world.supervisor.is_finished()
    world.wait(0.002)
    worker.kill.assert_called_once_with()
    assert world.supervisor.is_finished()


def test_a_second_interrupt_skips_the_grace_period() -> None:
    """After a second SIGINT the workers are killed at once."""
    world = World(workers=1)
    world.send(signal.SIGINT, signal.SIGINT)
    world.processes[0].kill.assert_called_once_with()
    assert world.supervisor.is_finished()


def test_the_supervisor_wakes_up_in_time() -> None:
    """The pause until the next check is that of the heartbeats, or ends when a step is due."""
    world = World(workers=1)
    idle = world.supervisor.seconds_until_due()
    assert 0 < idle <= HANG_SECONDS / 8
    world.is_starting = True
    world.exit(world.processes[0], 1)
    assert 0 < world.supervisor.seconds_until_due() < idle
    world.send(signal.SIGTERM)
    world.time += DRAIN_SECONDS
    assert 0 == world.supervisor.seconds_until_due()


def test_sighup_replaces_one_worker_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """A worker is retired when its successor is ready, and drains before it gets SIGTERM."""
    caplog.set_level(logging.INFO)
    world = World()
    first, second = world.processes
    world.is_starting = True
    world.send(signal.SIGHUP)
    world.wait(START_SECONDS / 2)
    successor = world.processes[2]
    assert [first, second, successor] == world.running()
    assert [] == world.retired
    successor.is_starting = False
    world.wait(CHECK_SECONDS)
    assert [first] == world.retired
    world.wait(DRAIN_SECONDS - 0.001)
    first.terminate.assert_not_called()
    world.wait(0.002)
    first.terminate.assert_called_once_with()
    world.is_starting = False
    world.wait(GRACE_SECONDS / 2)
    assert 3 == len(world.processes), "the next worker must wait until the first one has ended"
    world.exit(first, 0)
    world.wait(CHECK_SECONDS)
    assert [first, second] == world.retired
    world.wait(DRAIN_SECONDS + GRACE_SECONDS)
    second.kill.assert_called_once_with()
    assert world.processes[2:] == world.running()
    assert [0, 1] == world.exits
    assert "SIGHUP: all workers are replaced" in caplog.text
    assert logging.ERROR not in {record.levelno for record in caplog.records}


@pytest.mark.parametrize("fault", ["exits", "hangs", "is not ready", "never starts", "no memory"])
def test_a_failed_successor_ends_the_replacement(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the successor cannot take over, the old workers stay, and the log says why."""
    world = World()
    old = world.running()
    reason = "ended before it was ready"
    if fault == "is not ready":
        world.not_ready, reason = {2, 3}, "has no usable artifact"
    elif fault == "no memory":
        world.start_error, reason = OSError("Cannot allocate memory"), "Cannot allocate memory"
    else:
        world.is_starting = True
    world.send(signal.SIGHUP)
    if fault == "exits":
        world.exit(world.processes[2], 1)
    elif fault == "hangs":
        world.hung.add(world.processes[2])
    world.wait(START_SECONDS + GRACE_SECONDS)
    assert [] == world.retired
    assert old == world.running()
    assert f"{reason}; the old workers stay" in caplog.text


@pytest.mark.parametrize("error", [SettingsError("no pair"), OSError("no file"), ValueError("x")])
def test_sighup_with_broken_files(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """If the files for new workers are invalid, the old workers continue."""
    world = World(workers=1, check_reload=Mock(side_effect=error))
    world.send(signal.SIGHUP)
    world.wait(60.0)
    assert 1 == len(world.processes)
    world.processes[0].terminate.assert_not_called()
    assert f"SIGHUP: {error}; the workers are not replaced" in caplog.text


def test_a_second_sighup_takes_effect_after_the_first(caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP during a replacement checks and replaces again at its end; SIGTERM ends all."""
    caplog.set_level(logging.INFO)
    world = World(workers=1)
    world.send(signal.SIGHUP, signal.SIGHUP, signal.SIGHUP)
    world.wait(DRAIN_SECONDS + GRACE_SECONDS + CHECK_SECONDS)
    world.wait(DRAIN_SECONDS + GRACE_SECONDS + CHECK_SECONDS)
    assert world.processes[:2] == world.retired
    assert [world.processes[2]] == world.running()
    assert 2 == caplog.text.count("SIGHUP: all workers are replaced")


def test_sigterm_during_a_replacement_ends_all_workers() -> None:
    """SIGTERM drains the old worker and its successor alike, and starts no further one."""
    world = World()
    world.is_starting = True
    world.send(signal.SIGHUP, signal.SIGTERM)
    assert 3 == len(world.running())
    world.wait(DRAIN_SECONDS)
    assert all(process.terminate.called for process in world.processes)
    world.wait(GRACE_SECONDS)
    assert world.supervisor.is_finished()
    assert 3 == len(world.processes)


def test_a_worker_that_dies_while_it_is_replaced() -> None:
    """Its slot is never without a worker for longer than a start, and no process is left over."""
    world = World(workers=1)
    world.wait(60.0)
    world.is_starting = True
    world.send(signal.SIGHUP)
    world.exit(world.processes[0], -signal.SIGKILL)
    for process in world.processes:
        process.is_starting = False
    world.wait(DRAIN_SECONDS + GRACE_SECONDS + 2 * CHECK_SECONDS)
    assert [world.processes[1]] == world.running()


def test_a_later_signal_does_not_postpone_the_kill() -> None:
    """The grace period of a worker starts with the first signal that stops it."""
    world = World(workers=1)
    world.send(signal.SIGHUP)
    world.wait(CHECK_SECONDS)
    world.wait(DRAIN_SECONDS + GRACE_SECONDS - 1.0)
    world.send(signal.SIGINT)
    world.wait(1.5)
    world.processes[0].kill.assert_called_once_with()
