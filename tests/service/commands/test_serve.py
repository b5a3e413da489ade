"""Tests of the command `serve` with real processes, and of its errors."""

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.artifact import manifest
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


def test_restarted_worker_keeps_the_schema(
    artifact: Path, add_version: Callable[..., Path]
) -> None:
    """A worker that replaces a killed one refuses the version that its predecessor refused."""
    port = free_port()
    command = granian(artifact.parent, port, "--workers", "1", "--poll-seconds", "0.05")
    with serving(command, port) as server:
        features = json.loads((artifact / manifest.MANIFEST).read_bytes())["features"]
        add_version(2, features=features[::-1])
        until(lambda: "problem" in server.request("GET", "/readyz")[1])
        (worker,) = server.workers()
        worker.kill()
        until(lambda: server.workers() not in ([], [worker]))
        reply = server.request("GET", "/readyz")[1]
        assert ("1", True) == (reply["model"]["version"], "features: expected" in reply["problem"])


def test_reload_with_faulty_files(flowers: StoredArtifact, tmp_path: Path) -> None:
    """If a file that a new worker needs is faulty, SIGHUP leaves the workers as they are."""
    port, tokens, artifact = free_port(), tmp_path / "tokens", tmp_path / "flowers"
    tokens.write_text("secret")
    shutil.copytree(flowers.artifact, artifact / "1")
    command = granian(artifact, port, "--workers", "1", "--token-file", str(tokens))
    with serving(command, port, log=tmp_path / "log") as server:
        workers = server.workers()

        def reload(expected: str) -> None:
            server.process.send_signal(signal.SIGHUP)
            until(lambda: any(expected in line for line in server.log_lines()))
            assert workers == server.workers()
            assert 200 == server.request("POST", "/predict", BODY, **{"X-API-Key": "secret"})[0]

        tokens.write_text("")
        reload(f"SIGHUP: token_file: {tokens}: expected tokens, found none")
        tokens.unlink()
        reload(f"SIGHUP: token_file: {tokens}: No such file or directory")
        tokens.write_text("secret")
        (artifact / "1" / manifest.MODEL).write_bytes(b"")
        reload("ended before it was ready; the old workers stay")
        shutil.rmtree(artifact)
        reload(f"SIGHUP: {artifact}: no such folder")


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
