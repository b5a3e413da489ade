"""`python -m service`: real processes and sockets, and every error in one line."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.runtime.predictor import Predictor
from tests.serving import ROOT, free_port, granian, serving, until
from tests.stored import StoredArtifact

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_stops_cleanly(flowers: StoredArtifact, number: signal.Signals) -> None:
    """Ready with the artifact's digest, a prediction over a real socket, exit code 0 on SIGTERM and Ctrl-C."""
    port = free_port()
    with serving(granian(flowers.artifact, port), port) as server:
        assert Predictor(flowers.artifact).digest == server.request("GET", "/readyz")[1]["digest"]
        assert 200 == server.request("POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}')[0]
        assert 0 == server.stop(number)


def test_killed_parent_leaves_no_orphan(flowers: StoredArtifact) -> None:
    """SIGKILL to the parent ends its workers too, and the port is free again."""
    port = free_port()
    with serving(granian(flowers.artifact, port, "--workers", "2"), port) as server:
        children = psutil.Process(server.process.pid).children()
        server.stop(signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert (2, []) == (len(gone), alive)


def test_chunked_body_over_the_limit(flowers: StoredArtifact) -> None:
    """A body without a length is refused with 413 at the limit, and the server lives on."""
    port = free_port()
    environment = {"TWOLAYERNET_MAX_BODY_BYTES": "1000"}
    with serving(granian(flowers.artifact, port), port, environment) as server:
        chunks = (b"0" * 100 for _ in range(20))
        assert (
            413
            == server.request("POST", "/predict", chunks, **{"Content-Type": "application/json"})[0]
        )
        assert 200 == server.request("POST", "/predict", (b'{"instances":', b" []}"))[0]


def test_broken_artifact_is_alive_and_not_ready(artifact: Path) -> None:
    """The worker says why over HTTP, for the person on call; nothing is predicted."""
    (artifact / "golden.json").write_bytes(b"{}")
    port = free_port()
    with serving(granian(artifact, port), port, status=503) as server:
        assert 200 == server.request("GET", "/healthz")[0]
        assert "golden.json: expected SHA-256" in server.request("GET", "/readyz")[1]["detail"]
        assert 503 == server.request("POST", "/predict", b'{"instances": []}')[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_gunicorn_hosts_the_same_application(flowers: StoredArtifact, workers: int) -> None:
    """create_app under another host, configured by the environment."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "service.web.app:create_app()",
        "-b",
        f"127.0.0.1:{port}",
        "-w",
        str(workers),
    ]
    with serving(command, port, {"TWOLAYERNET_ARTIFACT": str(flowers.artifact)}) as server:
        assert 200 == server.request("POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}')[0]


def test_flask_run_finds_the_factory(flowers: StoredArtifact) -> None:
    """`flask --app service.app run` needs no argument."""
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "service.web.app", "run", "-p", str(port)]
    with serving(command, port, {"TWOLAYERNET_ARTIFACT": str(flowers.artifact)}) as server:
        assert 200 == server.request("POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}')[0]


def test_taken_port(flowers: StoredArtifact) -> None:
    """A second server on the same port ends in one line: sharing the port in silence would answer with either."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = CliRunner().invoke(main, ["serve", str(flowers.artifact), "--port", str(port)])
    assert 2 == ended.exit_code
    assert (
        f"Error: 127.0.0.1:{port}: the port is taken; choose another with --port\n" == ended.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["serve", "nope"],
            "nope: no such folder; expected artifacts/<name> or artifacts/<name>/<version>",
        ),
        (
            ["serve", "/"],
            "/: holds no artifact; expected artifacts/<name> or artifacts/<name>/<version>",
        ),
        (
            ["check", "nope"],
            "nope: no such folder; expected artifacts/<name> or artifacts/<name>/<version>",
        ),
        (
            ["serve"],
            "artifacts: nothing is published here; export a run first (python -m export build)",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What, where, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, arguments)
    assert (2, f"Error: {message}\n") == (ended.exit_code, ended.stderr)


def test_wrong_host(flowers: StoredArtifact) -> None:
    """A host name that does not resolve is said at once."""
    ended = CliRunner().invoke(main, ["serve", str(flowers.artifact), "--host", "256.0.0.1"])
    assert 2 == ended.exit_code
    assert ended.stderr.startswith("Error: 256.0.0.1: ")


def test_host_by_name(flowers: StoredArtifact) -> None:
    """A host may be given by its name."""
    port = free_port()
    with serving(granian(flowers.artifact, port, "--host", "localhost"), port) as server:
        assert 200 == server.request("GET", "/healthz")[0]


def test_stalled_uploads_do_not_stop_the_rest(flowers: StoredArtifact) -> None:
    """While many clients hold back their bodies, others are answered."""
    port = free_port()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    with (
        serving(granian(flowers.artifact, port), port) as server,
        contextlib.ExitStack() as stalled,
    ):
        for _ in range(32):
            stalled.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head)
        assert 200 == server.request("GET", "/healthz")[0]
        assert 200 == server.request("POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}')[0]


def test_stalled_uploads_that_take_every_place_leave_the_probes(flowers: StoredArtifact) -> None:
    """Where clients that hold back their bodies have every place, predictions are refused, and probes answered."""
    port = free_port()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    command = granian(flowers.artifact, port, "--workers", "1", "--in-flight", "1", "--queue", "8")
    with serving(command, port) as server, contextlib.ExitStack() as stalled:
        for _ in range(40):
            stalled.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head)
        ask = functools.partial(
            server.request, "POST", "/predict", b'{"instances": [[1, 2, 3, 4]]}'
        )
        until(lambda: ask()[0] == 503)
        for _ in range(20):
            assert 503 == ask()[0]
            assert 200 == server.request("GET", "/healthz")[0]
            assert 200 == server.request("GET", "/readyz")[0]


def test_check(flowers: StoredArtifact) -> None:
    """`check` repeats the service's own checks and prints the digest."""
    ended = CliRunner().invoke(main, ["check", str(flowers.artifact)])
    assert 0 == ended.exit_code
    assert Predictor(flowers.artifact).digest in ended.stdout


def test_score_without_its_extra_says_what_to_install(
    flowers: StoredArtifact, tmp_path: Path
) -> None:
    """An installation for serving alone has no polars; the line says what to do."""
    blocked = tmp_path / "polars.py"
    blocked.write_text("raise ModuleNotFoundError('No module named polars', name='polars')")
    ended = subprocess.run(
        [sys.executable, "-m", "service", "score", str(flowers.artifact), "in.csv", "out.csv"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (2, "Error: score needs polars: pip install 'twolayernet[score]'\n") == (
        ended.returncode,
        ended.stderr,
    )
