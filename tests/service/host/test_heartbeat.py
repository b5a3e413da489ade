"""Tests of service.host.heartbeat."""

import multiprocessing

from service.host.heartbeat import Heartbeats, HeartbeatThread, beat_interval
from tests.serving import until


def test_interval() -> None:
    """A worker beats several times within hang_seconds, and at least every quarter of a second."""
    for hang_seconds in (0.5, 1.0, 30.0, 86400.0):
        interval = beat_interval(hang_seconds)
        assert 0 < interval <= hang_seconds / 4
        assert interval < 1.0


def test_another_process_sees_the_beats() -> None:
    """The rows are independent; a worker has started when its application exists."""
    beats, context = Heartbeats(2), multiprocessing.get_context("fork")
    stop = context.Event()

    def run() -> None:
        thread = HeartbeatThread(beats, 1, 0.01)
        thread.start()
        until(lambda: beats.count(1) > 2)
        assert not beats.has_started(1)
        thread.confirm_application()
        stop.wait()

    process = context.Process(target=run)
    process.start()
    until(lambda: beats.has_started(1))
    count = beats.count(1)
    until(lambda: beats.count(1) > count)
    assert (0, False) == (beats.count(0), beats.has_started(0))
    stop.set()
    process.join()
    assert 0 == process.exitcode
    beats.reset(1)
    assert (0, False) == (beats.count(1), beats.has_started(1))
