"""Tests of service.host.replacement: SIGHUP with fake workers, clock and sockets."""

import logging
import signal
from unittest.mock import Mock

import pytest

from service.settings import SettingsError
from tests.service.host.fake_workers import (
    CHECK_SECONDS,
    DRAIN_SECONDS,
    GRACE_SECONDS,
    RETIRE_SECONDS,
    START_SECONDS,
    World,
)


def test_sighup_replaces_one_worker_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """A worker is retired when its successor is ready, and drains before it gets SIGTERM."""
    caplog.set_level(logging.INFO)
    world = World()
    first, second = world.processes
    world.is_starting = True
    world.send(signal.SIGHUP)
    world.wait(START_SECONDS / 2)
    successor = world.processes[2]
    assert [False, False, True] == [process.must_be_ready for process in world.processes]
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
    world.wait(DRAIN_SECONDS + RETIRE_SECONDS - 1.0)
    second.kill.assert_not_called()
    world.wait(2.0)
    second.kill.assert_called_once_with()
    assert world.processes[2:] == world.running()
    assert [0, 1] == world.exits
    assert "SIGHUP: all workers are replaced" in caplog.text
    assert logging.ERROR not in {record.levelno for record in caplog.records}


@pytest.mark.parametrize("fault", ["ends", "hangs", "never starts", "no memory"])
def test_a_failed_successor_ends_the_replacement(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the successor cannot take over, the old workers stay, and the log says why."""
    world = World()
    old = world.running()
    reason = "the new worker 0 (process 1002) ended before it was ready"
    if fault == "no memory":
        world.start_error, reason = OSError("Cannot allocate memory"), "Cannot allocate memory"
    else:
        world.is_starting = True
    world.send(signal.SIGHUP)
    if fault == "ends":
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
    world.wait(DRAIN_SECONDS + RETIRE_SECONDS + CHECK_SECONDS)
    world.wait(DRAIN_SECONDS + RETIRE_SECONDS + CHECK_SECONDS)
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
    """The slot soon has a worker again, and no process is left over."""
    world = World(workers=1)
    world.wait(60.0)
    world.is_starting = True
    world.send(signal.SIGHUP)
    world.exit(world.processes[0], -signal.SIGKILL)
    for process in world.processes:
        process.is_starting = False
    world.wait(DRAIN_SECONDS + RETIRE_SECONDS + 2 * CHECK_SECONDS)
    assert [world.processes[1]] == world.running()


@pytest.mark.parametrize(
    ("seconds", "kill_seconds"), [(1.0, GRACE_SECONDS), (RETIRE_SECONDS - 1.0, 1.0)]
)
def test_a_later_signal_never_postpones_the_kill(seconds: float, kill_seconds: float) -> None:
    """A stop of the server shortens the time of a replaced worker, and does not extend it."""
    world = World(workers=1)
    world.send(signal.SIGHUP)
    world.wait(CHECK_SECONDS)
    world.wait(DRAIN_SECONDS)
    world.processes[0].terminate.assert_called_once_with()
    world.wait(seconds - CHECK_SECONDS)
    world.send(signal.SIGINT)
    world.wait(kill_seconds - 1.5)
    world.processes[0].kill.assert_not_called()
    world.wait(3.0)
    world.processes[0].kill.assert_called_once_with()
