"""Tests of the command `serve` with real processes, and of its errors."""

import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.runtime.predictor import Predictor
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import FLOWERS, StoredArtifact

pytestmark = pytest.mark.e2e

BODY = b'{"instances": [[1, 2, 3, 4]]}'


def predict(server: Server) -> int:
    """Request a prediction and return the status of the reply."""
    return server.request("POST", "/predict", BODY)[0]


def test_serves_until_interrupted(flowers: StoredArtifact) -> None:
    """The server is ready with the right digest, predicts, and exits with code 0 on Ctrl-C."""
    port = free_port()
    with serving(granian(flowers.artifact, port), port) as server:
        assert Predictor(flowers.artifact).digest == server.request("GET", "/readyz")[1]["digest"]
        assert 200 == predict(server)
        assert 0 == server.stop(signal.SIGINT)


def test_drain(flowers: StoredArtifact) -> None:
    """After SIGTERM all workers still predict but are not ready; a second SIGTERM stops them."""
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


@pytest.mark.parametrize(
    "command",
    ["gunicorn service.web.app:create_app() -w 2 -b", "flask --app service.web.app run -p"],
)
def test_other_hosts(flowers: StoredArtifact, command: str) -> None:
    """Under gunicorn and flask, create_app reads its settings from the environment."""
    port = free_port()
    address = f"127.0.0.1:{port}" if command.startswith("gunicorn") else str(port)
    environment = {"TWOLAYERNET_ARTIFACT": str(flowers.artifact)}
    with serving([sys.executable, "-m", *command.split(), address], port, environment) as server:
        assert 200 == predict(server)


PAIR = ["--tls-certificate", "a.pem", "--tls-key", "a.key"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "artifacts: nothing is published here; export a run first (python -m export build)"),
        ([str(FLOWERS.artifact), *PAIR], "a.pem: No such file or directory"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line that names the problem, and the exit code is 2."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert (2, f"Error: {message}\n") == (result.exit_code, result.stderr)
