"""Tests of service.host with real processes: workers are killed, drained and replaced."""

import contextlib
import errno
import http.client
import json
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from unittest.mock import Mock

import psutil
import pytest

from service.host.granian_adapter import retire
from service.host.sockets import MAX_CONNECTIONS
from service.host.tls import KeyPair
from tests.service.host.certificates import create_certificate
from tests.serving import DEADLINE_SECONDS, ROOT, Server, free_port, kill, serving, until

pytestmark = pytest.mark.e2e

STALLED_UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _sighup_is_not_ignored() -> Iterator[None]:
    """Give the servers the default handler of SIGHUP, which they would ignore under nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


def command(port: int, **options: Any) -> list[str]:
    """Return the command that starts the small server."""
    module = "tests.service.host.small_server"
    return [sys.executable, "-m", module, str(port), json.dumps(options)]


@contextlib.contextmanager
def hosting(**options: Any) -> Iterator[Server]:
    """Run the small server until the end of the context."""
    port = free_port()
    with serving(command(port, **options), port) as server:
        yield server


def is_refused(server: Server) -> bool:
    """Return whether the port of a server refuses connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED


def log_of(server: Server) -> IO[str]:
    """Return the output of a server."""
    assert server.process.stdout is not None
    return server.process.stdout


def wait_for_log(server: Server, text: str) -> None:
    """Read the log until a line contains a text."""
    assert any(text in line for line in log_of(server)), f"the log ends without '{text}'"


def connect(server: Server, request: bytes) -> socket.socket:
    """Open a connection and send a request over it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS)
    connection.sendall(request)
    return connection


@pytest.mark.skipif(sys.platform != "linux", reason="needs SCHED_BATCH")
def test_workers_are_scheduled_as_batch() -> None:
    """All threads of a worker have the policy SCHED_BATCH; the supervisor does not."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("the tests run under another scheduling policy")
    with hosting() as server:
        worker = psutil.Process(server.process.pid).children()[0]
        threads = [thread.id for thread in worker.threads()]
        assert len(threads) > 1
        assert {os.SCHED_BATCH} == {os.sched_getscheduler(thread) for thread in threads}
        assert os.SCHED_OTHER == os.sched_getscheduler(server.process.pid)


def test_connections_wait_for_the_next_worker() -> None:
    """A killed worker's successor serves the connections that the worker had not accepted."""
    with hosting() as server:
        worker = psutil.Process(server.process.pid).children()[0]
        worker.suspend()
        until(lambda: worker.status() == psutil.STATUS_STOPPED)
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(server, GET)) for _ in range(20)]
            worker.kill()
            assert {b"HTTP/1.1 200"} == {connection.recv(4096)[:12] for connection in connections}
        # The supervisor forks, which is only safe in a process with one thread.
        assert 1 == psutil.Process(server.process.pid).num_threads()


def test_crash_loop_of_one_worker_leaves_the_others() -> None:
    """No connection is assigned to a slot whose worker crashes repeatedly, or waits there long."""
    with hosting(workers=2, broken=[1], abandon_seconds=0.1) as server:
        wait_for_log(server, "exit code 1; the next one starts in 0.2 s")
        assert {200} == {server.request("GET", "/")[0] for _ in range(30)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered(number: signal.Signals, tmp_path: Path) -> None:
    """During a stop, requests in flight are answered and new connections are refused."""
    with hosting(drain_seconds=0.1, grace_seconds=600) as server:
        request = f"GET /wait?{tmp_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        with connect(server, request) as connection:
            until((tmp_path / "entered").exists)
            # A terminal sends Ctrl-C to the workers too.
            (os.killpg if number == signal.SIGINT else os.kill)(server.process.pid, number)
            until(lambda: is_refused(server))
            (tmp_path / "go").touch()
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert 0 == server.process.wait(timeout=DEADLINE_SECONDS)


def test_a_hung_worker_is_replaced() -> None:
    """A suspended worker is killed, and its successor answers what it had not accepted."""
    with hosting(hang_seconds=0.5) as server:
        worker = psutil.Process(server.process.pid).children()[0]
        worker.suspend()
        until(lambda: worker.status() == psutil.STATUS_STOPPED)
        with connect(server, GET) as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert not worker.is_running()
        wait_for_log(server, "has not responded")


def test_sighup_replaces_the_workers() -> None:
    """A replaced worker answers on its connections, but accepts none; its successor does."""
    with hosting(drain_seconds=600, grace_seconds=600) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)

        def process_of_connection() -> int:
            connection.request("GET", "/")
            return int(json.loads(connection.getresponse().read())["process"])

        with contextlib.closing(connection):
            old = process_of_connection()
            server.process.send_signal(signal.SIGHUP)
            wait_for_log(server, "is retired")

            def new_connections() -> set[int]:
                return {server.request("GET", "/")[1]["process"] for _ in range(10)}

            until(lambda: old not in new_connections())
            assert {old} | new_connections() == {worker.pid for worker in server.workers()}
            assert old not in new_connections()
            assert old == process_of_connection()
        assert 0 == server.stop(signal.SIGINT)
        assert " ERROR " not in log_of(server).read()


def test_killed_supervisor_leaves_no_orphan() -> None:
    """The workers of a killed supervisor exit, even with requests in flight."""
    with hosting(workers=2) as server, connect(server, STALLED_UPLOAD):
        until(lambda: len(server.workers()) == 2)  # The first one may reply before the second fork.
        children = server.workers()
        server.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=DEADLINE_SECONDS)
        assert [] == alive
        assert is_refused(server)


def test_open_file_limit() -> None:
    """A worker raises its soft open-file limit above MAX_CONNECTIONS, if the hard limit permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    port = free_port()
    limited = ["sh", "-c", 'ulimit -S -n 200 && exec "$@"', "sh", *command(port)]
    with serving(limited, port) as server:
        (worker,) = psutil.Process(server.process.pid).children()
        soft, _ = worker.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard or soft > MAX_CONNECTIONS


@contextlib.contextmanager
def hosting_tls(pair: KeyPair) -> Iterator[Server]:
    """Run the small server over TLS."""
    port = free_port()
    with subprocess.Popen(
        command(port, key_pair=[str(pair.certificate), str(pair.key)]),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            server = Server(process, port)
            until(lambda: not is_refused(server))
            yield server
        finally:
            kill(process)


def request_tls(
    server: Server, trusted: KeyPair, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[bytes, bytes]:
    """Send a request over TLS; return the reply and the certificate of the server."""
    context = ssl.create_default_context(cafile=trusted.certificate)
    context.maximum_version = version
    with (
        connect(server, b"") as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(GET)
        reply = b"".join(iter(lambda: secured.recv(4096), b""))
        return reply, secured.getpeercert(binary_form=True) or b""


def test_tls_and_its_renewal(tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 work; after SIGHUP new workers use the new files if these match."""
    old, new = create_certificate(tmp_path, "old"), create_certificate(tmp_path, "new")
    live = KeyPair(tmp_path / "live.pem", tmp_path / "live.key")

    def link(certificate: Path, key: Path) -> None:
        for path, target in ((live.certificate, certificate), (live.key, key)):
            path.unlink(missing_ok=True)
            path.symlink_to(target)

    link(old.certificate, old.key)
    with hosting_tls(live) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            reply, old_certificate = request_tls(server, old, version)
            assert reply.startswith(b"HTTP/1.1 200")
            assert b'"scheme": "https"' in reply
        link(new.certificate, old.key)
        server.process.send_signal(signal.SIGHUP)
        wait_for_log(server, "the workers are not replaced")
        assert old_certificate == request_tls(server, old)[1]
        link(new.certificate, new.key)
        server.process.send_signal(signal.SIGHUP)

        def is_renewed() -> bool:
            with contextlib.suppress(ssl.SSLCertVerificationError):
                return request_tls(server, new)[1] != old_certificate
            return False

        until(is_renewed)


def test_only_a_started_process_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal is sent without a process ID, because 0 would mean the whole process group."""
    monkeypatch.setattr(os, "kill", kill_process := Mock())
    with pytest.raises(ValueError, match="expected a process that has been started"):
        retire(multiprocessing.Process())
    kill_process.assert_not_called()
