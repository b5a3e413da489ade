"""service.host: real processes, killed, drained, replaced and stopped."""

import contextlib
import errno
import fcntl
import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.host.sockets import MAX_CONNECTIONS, TCP_KEEPALIVE_SECONDS, listen
from service.host.supervisor import FIRST_PAUSE_SECONDS, Supervisor
from service.settings import SettingsError
from tests.serving import DEADLINE_SECONDS, ROOT, Server, free_port, granian, kill, serving, until
from tests.stored import StoredArtifact

pytestmark = pytest.mark.e2e

STALLED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
BROKEN = (OSError, http.client.HTTPException)
"""What a connection may end in when its worker is killed."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _hears_sighup() -> Iterator[None]:
    """Have the servers hear SIGHUP, which nohup would have these tests and their children ignore."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def command(port: int, **options: Any) -> list[str]:
    """Return the command of tests/hosted.py."""
    return [sys.executable, "-m", "tests.hosted", str(port), json.dumps(options)]


@contextlib.contextmanager
def hosting(**options: Any) -> Iterator[Server]:
    """Run tests/hosted.py, ready."""
    port = free_port()
    with serving(command(port, **options), port) as server:
        yield server


def workers(server: Server) -> dict[int, int]:
    """Return the processes that answer, by their slots; whoever does not is left out."""
    found = {}
    for _ in range(20):
        with contextlib.suppress(*BROKEN):
            answer = server.request("GET", "/")[1]
            found[answer["slot"]] = answer["process"]
    return found


def refused(server: Server) -> bool:
    """Whether nobody accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED


def output(server: Server) -> str:
    """Return what a server that has ended said."""
    assert server.process.stdout is not None
    return server.process.stdout.read()


def connect(server: Server, request: bytes) -> socket.socket:
    """Open a connection and send something over it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS)
    connection.sendall(request)
    return connection


def test_killed_workers_are_replaced() -> None:
    """However often they are killed, every slot is filled again, in the same process; each death is one line."""
    with hosting(workers=2) as server:
        killed: set[int] = set()

        def alive() -> dict[int, int]:
            found = workers(server)
            return found if {0, 1} == set(found) and not killed & set(found.values()) else {}

        for _ in range(3):
            for process in until(alive).values():
                os.kill(process, signal.SIGKILL)
                killed.add(process)
        until(alive)
        assert (
            1 == psutil.Process(server.process.pid).num_threads()
        )  # whatever forks should have no other
        assert 0 == server.stop(signal.SIGINT)
        said = output(server)
        for process in killed:
            assert 1 == len(
                re.findall(
                    rf"ERROR worker [01] \(process {process}\) ended .* signal 9 \(Killed\)", said
                )
            )


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such policy")
def test_workers_are_batch_work() -> None:
    """Every thread of a worker waits for the one that runs; the process that looks after them does not."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("these tests run under a policy that somebody chose")
    with hosting() as server:
        worker = psutil.Process(server.process.pid).children()[0]
        threads = [thread.id for thread in worker.threads()]
        assert len(threads) > 1
        assert {os.SCHED_BATCH} == {os.sched_getscheduler(thread) for thread in threads}
        assert os.SCHED_OTHER == os.sched_getscheduler(server.process.pid)


def test_connections_wait_for_the_next_worker() -> None:
    """What a killed worker had not accepted yet, its successor answers."""
    with hosting() as server:
        worker = psutil.Process(server.process.pid).children()[0]
        worker.suspend()
        until(lambda: worker.status() == psutil.STATUS_STOPPED)
        with contextlib.ExitStack() as waiting:
            connections = [waiting.enter_context(connect(server, GET)) for _ in range(20)]
            worker.kill()
            assert {b"HTTP/1.1 200"} == {connection.recv(4096)[:12] for connection in connections}


def test_crash_loop() -> None:
    """A worker that cannot live is tried again for ever, after pauses that grow; SIGTERM ends it at once."""
    port = free_port()
    process = subprocess.Popen(
        command(port, broken=[0], drain_seconds=600),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        pauses: list[float] = []
        while len(pauses) < 4:
            line = process.stdout.readline()
            assert line
            if found := re.search(r"exit code 1; the next one starts in (.*) s", line):
                pauses.append(float(found[1]))
        assert [pytest.approx(FIRST_PAUSE_SECONDS * 2**index) for index in range(4)] == pauses
        assert refused(Server(process, port))
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(timeout=DEADLINE_SECONDS)
    finally:
        kill(process)
        process.communicate()


def test_crash_loop_of_one_worker_leaves_the_others() -> None:
    """No connection is given to a slot whose worker cannot live."""
    with hosting(workers=2, broken=[1]) as server:
        assert server.process.stdout is not None
        until(lambda: "starts in 0.2 s" in server.process.stdout.readline())  # type: ignore[union-attr] # as above
        assert {200} == {server.request("GET", "/")[0] for _ in range(30)}


def test_drain() -> None:
    """SIGTERM: not ready, and still answering; a second one: the end, exit code 0."""
    with hosting(workers=2, drain_seconds=600) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.request("GET", "/readyz")[0] == 503)
        assert {503} == {server.request("GET", "/readyz")[0] for _ in range(10)}
        assert {200} == {server.request("GET", "/")[0] for _ in range(10)}
        assert 0 == server.stop(signal.SIGTERM)


def test_drain_ends_by_itself() -> None:
    """After its seconds, exit code 0 and no worker left."""
    with hosting(drain_seconds=0.1) as server:
        children = psutil.Process(server.process.pid).children()
        assert 0 == server.stop(signal.SIGTERM)
        assert not any(child.is_running() for child in children)


def test_drain_of_the_service(flowers: StoredArtifact) -> None:
    """The whole service: /readyz says that it drains, and predictions are answered."""
    port = free_port()
    with serving(
        granian(flowers.artifact, port), port, {"TWOLAYERNET_DRAIN_SECONDS": "600"}
    ) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.request("GET", "/readyz")[0] == 503)
        assert "draining" in server.request("GET", "/readyz")[1]["detail"]
        assert 200 == server.request("POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}')[0]
        assert 0 == server.stop(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered(number: signal.Signals, tmp_path: Path) -> None:
    """A request that was in flight when the end began is answered, though nobody is accepted any longer."""
    with hosting(drain_seconds=0.1, grace_seconds=600) as server:
        with connect(
            server, f"GET /wait?{tmp_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        ) as connection:
            until((tmp_path / "entered").exists)
            # A terminal sends Ctrl-C to the workers too.
            (os.killpg if number == signal.SIGINT else os.kill)(server.process.pid, number)
            until(lambda: refused(server))
            (tmp_path / "go").touch()
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert 0 == server.process.wait(timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("signals", [1, 2])
def test_requests_that_do_not_end_are_given_up(signals: int) -> None:
    """An upload that stalls keeps the service alive for the grace, or until a second Ctrl-C."""
    with hosting(grace_seconds=0.3 if signals == 1 else 600) as server, connect(server, STALLED):
        server.request("GET", "/")  # has the upload, which came before it
        server.process.send_signal(signal.SIGINT)
        until(lambda: refused(server))
        if signals == 2:
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
        assert 0 == server.process.wait(timeout=DEADLINE_SECONDS)
        assert "signal 9 (Killed)" in output(server)


def test_sighup_replaces_the_workers() -> None:
    """SIGHUP: other processes in the same slots, and not one connection refused or broken."""
    with hosting(workers=2) as server:
        before = until(lambda: found if len(found := workers(server)) == 2 else {})
        server.process.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            answers = [server.request("GET", "/") for _ in range(10)]
            assert {200} == {status for status, _ in answers}
            return not {answer["process"] for _, answer in answers} & set(before.values())

        until(replaced)
        assert {0, 1} == set(until(lambda: found if len(found := workers(server)) == 2 else {}))
        assert 0 == server.stop(signal.SIGINT)
        assert " ERROR " not in output(server)


def test_killed_host_leaves_no_orphan() -> None:
    """SIGKILL to the host ends the workers, even those with requests that do not end, and frees the port."""
    with hosting(workers=2) as server, connect(server, STALLED):
        children = psutil.Process(server.process.pid).children()
        assert 2 == len(children)
        server.stop(signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=DEADLINE_SECONDS)
        assert (2, []) == (len(gone), alive)
        assert refused(server)


def test_terminal_that_closes_ends_it() -> None:
    """The SIGHUP of a closed terminal is not one that asks for new workers."""
    port = free_port()
    master, slave = os.openpty()
    process = subprocess.Popen(
        command(port),
        cwd=ROOT,
        stdin=slave,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),
        text=True,
    )
    os.close(slave)
    server = Server(process, port)
    try:
        before = until(lambda: workers(server))
        process.send_signal(signal.SIGHUP)
        until(lambda: (found := workers(server)) and found != before)
        os.close(master)
        assert 0 == process.wait(timeout=DEADLINE_SECONDS)
    finally:
        kill(process)


def certify(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Make a certificate that signs itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run(
        [*made, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    return certificate, key


def shown(
    port: int, trusted: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[bytes, bytes]:
    """Ask over TLS; return the reply and the certificate that was shown."""
    context = ssl.create_default_context(cafile=trusted)
    context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(GET)
        reply = b""
        while part := secured.recv(4096):
            reply += part
        return reply, secured.getpeercert(binary_form=True) or b""


@contextlib.contextmanager
def hosting_tls(certificate: Path, key: Path) -> Iterator[Server]:
    """Run tests/hosted.py over TLS."""
    port = free_port()
    ended = subprocess.Popen(
        command(port, certificate=str(certificate), key=str(key)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    server = Server(ended, port)
    try:
        until(lambda: not refused(server))
        yield server
    finally:
        kill(ended)
        ended.communicate()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """HTTPS with a certificate and its key, down to TLS 1.2."""
    certificate, key = certify(tmp_path)
    with hosting_tls(certificate, key) as server:
        reply, _ = shown(server.port, certificate, version)
        assert reply.startswith(b"HTTP/1.1 200")
        assert b'"scheme": "https"' in reply


def test_renewed_certificate(tmp_path: Path) -> None:
    """SIGHUP: the files are read again, through links that lead elsewhere by now, if they are a pair."""
    old, new = certify(tmp_path, "old"), certify(tmp_path, "new")
    certificate, key = tmp_path / "live.pem", tmp_path / "live.key"

    def link(target_certificate: Path, target_key: Path) -> None:
        for name, target in ((certificate, target_certificate), (key, target_key)):
            name.unlink(missing_ok=True)
            name.symlink_to(target)

    link(*old)
    with hosting_tls(certificate, key) as server:
        first = shown(server.port, old[0])[1]
        link(new[0], old[1])
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stdout is not None
        until(lambda: "the workers stay" in server.process.stdout.readline())  # type: ignore[union-attr] # as above
        assert first == shown(server.port, old[0])[1]
        link(*new)
        server.process.send_signal(signal.SIGHUP)

        def renewed() -> bool:
            with contextlib.suppress(ssl.SSLCertVerificationError):
                return shown(server.port, new[0])[1] != first
            return False

        until(renewed)


def test_bad_pair(tmp_path: Path) -> None:
    """A file that is not there, is something else, or belongs to another certificate is said in one line."""
    (certificate, key), (_, other) = certify(tmp_path), certify(tmp_path, "other")
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("hello")
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        Supervisor([], threads=1, certificate=missing, key=key)
    for pair in ((certificate, other), (text, key), (certificate, text), (key, certificate)):
        with pytest.raises(SettingsError) as caught:
            Supervisor([], threads=1, certificate=pair[0], key=pair[1])
        expected = f"{pair[0]}, {pair[1]}: expected a certificate and its key in PEM, the key without a password"
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


def test_port_that_is_taken() -> None:
    """By another program, or by another server of the same kind, which could share it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            SettingsError,
            match=rf"^127.0.0.1:{port}: the port is taken; choose another with --port$",
        ):
            listen("127.0.0.1", port, 2)
    with contextlib.ExitStack() as opened:
        for bound in listen("127.0.0.1", port, 2):
            opened.enter_context(bound)
        with pytest.raises(SettingsError, match="the port is taken"):
            listen("127.0.0.1", port, 2)


def test_vanished_clients_are_noticed() -> None:
    """Connections have a keep-alive of TCP, so that an upload from a machine that is gone ends."""
    with contextlib.ExitStack() as opened:
        (listener,) = listen("127.0.0.1", free_port(), 1)
        opened.enter_context(listener)
        opened.enter_context(socket.create_connection(listener.getsockname()))
        accepted = opened.enter_context(listener.accept()[0])
        assert 1 == accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, count = (
            accepted.getsockopt(socket.IPPROTO_TCP, option) for option in options
        )
        assert TCP_KEEPALIVE_SECONDS == idle + interval * count


def test_busy_requests_do_not_stop_the_drain(tmp_path: Path) -> None:
    """Clients that go on asking over open connections are answered to the end, and do not put it off."""
    statuses: list[int] = []
    with hosting(drain_seconds=0.3) as server:

        def ask() -> None:
            with contextlib.suppress(*BROKEN):
                while True:
                    statuses.append(server.request("GET", "/")[0])

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        until(lambda: len(statuses) > 20)
        assert 0 == server.stop(signal.SIGTERM)
        for thread in asking:
            thread.join()
    assert {200} == set(statuses)


def test_files_for_every_connection() -> None:
    """Where a process may open fewer files than it has connections at most, and may raise that itself, it does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    port = free_port()
    limited = ["sh", "-c", 'ulimit -S -n 200 && exec "$@"', "sh", *command(port)]
    with serving(limited, port) as server:
        (worker,) = psutil.Process(server.process.pid).children()
        soft, _ = worker.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard or soft > MAX_CONNECTIONS


def test_bad_pair_ends_serve_in_one_line(flowers: StoredArtifact, tmp_path: Path) -> None:
    """What and where, exit code 2."""
    (certificate, key), (_, other) = certify(tmp_path), certify(tmp_path, "other")
    for pair, message in (
        (
            (tmp_path / "missing.pem", key),
            f"Error: {tmp_path}/missing.pem: No such file or directory\n",
        ),
        (
            (certificate, other),
            f"Error: {certificate}, {other}: expected a certificate and its key in PEM",
        ),
    ):
        serve = granian(
            flowers.artifact,
            free_port(),
            "--tls-certificate",
            str(pair[0]),
            "--tls-key",
            str(pair[1]),
        )
        ended = subprocess.run(
            serve, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        assert 2 == ended.returncode
        assert ended.stderr.startswith(message)
        assert 1 == ended.stderr.count("\n")
