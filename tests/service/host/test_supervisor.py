"""Tests of service.host.supervisor and service.host.slots with fake workers, clock and sockets."""

import signal
import sys
from collections.abc import Collection

import pytest

from service.host import supervisor
from service.host.slots import MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS, STABLE_SECONDS
from tests.service.host.fake_workers import (
    ABANDON_SECONDS,
    CHECK_SECONDS,
    DRAIN_SECONDS,
    GRACE_SECONDS,
    HANG_SECONDS,
    START_SECONDS,
    World,
)


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
    """A worker that ends before it has started delays the next one, however long it ran.

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
    """The first early death causes no pause; a worker that runs long enough ends the series."""
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


def test_failing_slots_get_no_new_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot in back-off gets connections again as soon as its worker has started."""
    exclusions: list[Collection[int]] = []
    monkeypatch.setattr(
        supervisor, "assign_connections", lambda listeners, excluded: exclusions.append(excluded)
    )
    world = World()
    world.is_starting = True
    world.exit(world.processes[1], 1)
    world.exit(world.processes[2], 1)
    assert [[1]] == exclusions
    world.is_starting = False
    world.wait(2 * CHECK_SECONDS)
    assert [[1], []] == exclusions


@pytest.mark.skipif(sys.platform != "linux", reason="other systems share one socket")
@pytest.mark.parametrize(("fail_all", "calls"), [(False, True), (True, False)])
def test_queued_connections_of_a_failing_slot(fail_all: bool, calls: bool) -> None:
    """The queued connections of a failing slot are closed after a time if another worker runs."""
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
