"""The command `serve`: real processes and sockets, and one line for bad input."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.runtime.predictor import Predictor
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import StoredArtifact

pytestmark = pytest.mark.e2e

BODY = b'{"instances": [[1, 2, 3, 4]]}'


def predict(server: Server) -> int:
    """Return the status of a prediction."""
    return server.request("POST", "/predict", BODY)[0]


def test_serves_until_interrupted(flowers: StoredArtifact) -> None:
    """Ready with the artifact's digest; a prediction over a socket; exit code 0 on Ctrl-C."""
    port = free_port()
    with serving(granian(flowers.artifact, port), port) as server:
        assert Predictor(flowers.artifact).digest == server.request("GET", "/readyz")[1]["digest"]
        assert 200 == predict(server)
        assert 0 == server.stop(signal.SIGINT)


def test_drain(flowers: StoredArtifact) -> None:
    """After SIGTERM no worker is ready and all answer predictions; a second SIGTERM ends them."""
    port = free_port()
    command = granian(flowers.artifact, port, "--workers", "2", "--drain-seconds", "600")
    with serving(command, port) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.request("GET", "/readyz")[0] == 503)
        replies = [server.request("GET", "/readyz") for _ in range(10)]
        assert {503} == {status for status, _ in replies}
        assert "draining" in replies[0][1]["detail"]
        assert {200} == {predict(server) for _ in range(10)}
        assert 0 == server.stop(signal.SIGTERM)


def test_chunked_body_over_the_limit(flowers: StoredArtifact) -> None:
    """A body without a length is refused with 413 at the limit, and the next is answered."""
    port = free_port()
    environment = {"TWOLAYERNET_MAX_BODY_BYTES": "1000"}
    with serving(granian(flowers.artifact, port), port, environment) as server:
        chunks = (b"0" * 100 for _ in range(20))
        headers = {"Content-Type": "application/json"}
        assert 413 == server.request("POST", "/predict", chunks, **headers)[0]
        assert 200 == server.request("POST", "/predict", (b'{"instances":', b" []}"))[0]


@pytest.mark.parametrize(
    "command",
    ["gunicorn service.web.app:create_app() -w 2 -b", "flask --app service.web.app run -p"],
)
def test_other_hosts(flowers: StoredArtifact, command: str) -> None:
    """create_app runs under gunicorn and flask, configured by the environment."""
    port = free_port()
    address = f"127.0.0.1:{port}" if command.startswith("gunicorn") else str(port)
    environment = {"TWOLAYERNET_ARTIFACT": str(flowers.artifact)}
    with serving([sys.executable, "-m", *command.split(), address], port, environment) as server:
        assert 200 == predict(server)


@contextlib.contextmanager
def stalled_uploads(port: int, count: int) -> Iterator[None]:
    """Open connections whose requests lack most of their body."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head)
        yield


def test_stalled_uploads(flowers: StoredArtifact) -> None:
    """While few stall, others are answered; while all queue places stall, only the probes are."""
    port = free_port()
    command = granian(flowers.artifact, port, "--workers", "1", "--in-flight", "1", "--queue", "8")
    with serving(command, port) as server, stalled_uploads(port, 4):
        assert 200 == predict(server)
        with stalled_uploads(port, 36):
            until(lambda: predict(server) == 503)
            for _ in range(20):
                assert 503 == predict(server)
                assert 200 == server.request("GET", "/healthz")[0]
                assert 200 == server.request("GET", "/readyz")[0]


EXPECTED = "expected artifacts/<name> or artifacts/<name>/<version>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "nope"], f"nope: no such folder; {EXPECTED}"),
        (["serve", "/"], f"/: holds no artifact; {EXPECTED}"),
        (["check", "nope"], f"nope: no such folder; {EXPECTED}"),
        (
            ["serve"],
            "artifacts: nothing is published here; export a run first (python -m export build)",
        ),
        (
            ["serve", "{artifact}", "--tls-certificate", "a.pem", "--tls-key", "a.key"],
            "a.pem: No such file or directory",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    flowers: StoredArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says what is wrong and where, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(artifact=flowers.artifact) for argument in arguments]
    result = CliRunner().invoke(main, filled)
    assert (2, f"Error: {message}\n") == (result.exit_code, result.stderr)
