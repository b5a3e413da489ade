"""Tests of service.host.signals: reading signals as numbers, and a closed terminal as SIGINT."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

from service.host.signals import HANDLED_SIGNALS, open_signal_pipe
from tests.serving import DEADLINE_SECONDS, ROOT


def test_signals_arrive() -> None:
    """Each signal is read once, in the order of arrival; SIGHUP stays ignored under nohup."""
    previous = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with open_signal_pipe() as pipe:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            assert [signal.SIGTERM, signal.SIGINT, signal.SIGTERM] == pipe.read()
        assert previous[signal.SIGTERM] is signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, previous[signal.SIGHUP])


def test_closed_terminal_means_sigint() -> None:
    """SIGHUP is read as SIGHUP while the terminal is open, and as SIGINT after it has closed."""
    code = """import signal
from service.host.signals import open_signal_pipe
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with open_signal_pipe() as pipe:
    print("ready", flush=True)
    print(*pipe.read(), flush=True)
    print(*pipe.read(), flush=True)"""
    terminal, device = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=device,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),
        text=True,
    )
    os.close(device)
    with process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert f"{signal.SIGHUP:d}\n" == process.stdout.readline()
        os.close(terminal)
        assert f"{signal.SIGINT:d}\n" == process.stdout.readline()
        assert 0 == process.wait(timeout=DEADLINE_SECONDS)
