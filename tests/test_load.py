"""bench/open_loop.py accounts for every request; bench/serve.py, overload.py and soak.py run. No figure decides."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Made
from tests.serving import ROOT

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


class Answer(BaseHTTPRequestHandler):
    """Answers with the status that the path names: /200; a 503 comes before the body is read, and is the last."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        status = int(self.path[1:])
        if status != 503:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        if status == 503:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")
        if status == 503:  # a connection that is closed before its body is read is reset, and the answer with it
            self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve Answer."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.request_queue_size = 128  # all the connections at once
    server.server_bind()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def offer(port: int, folder: Path, *requests: bytes, **job: Any) -> tuple[Counter[tuple[int, int]], Any]:
    """Send requests in turn for a while; count them by which it was and what became of it, and return all."""
    files = [folder / f"request-{number}" for number in range(len(requests))]
    for file, request in zip(files, requests, strict=True):
        file.write_bytes(request)
    asked = {"port": port, "requests": [str(file) for file in files], "rate": 400, "seconds": 0.25, "connections": 100}
    asked |= {"start": time.monotonic() + 1, "grace": 30, "seed": 0, "result": str(folder / "answers.npz"), **job}
    command = [sys.executable, "bench/open_loop.py"]
    subprocess.run(command, cwd=ROOT, input=json.dumps(asked), text=True, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "answers.npz") as file:
        found = dict(file)
    return Counter(zip(found["kind"].tolist(), found["status"].tolist(), strict=True)), found


def post(status: int, size: int) -> bytes:
    """Return a request that deserves a status."""
    return f"POST /{status} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size)


def test_every_request_gets_its_own_answer(port: int, tmp_path: Path) -> None:
    """Each kind has its own status, an answer that comes before a body of a megabyte is read among them."""
    counts, found = offer(port, tmp_path, post(200, 10), post(422, 0), post(503, 1 << 20), post(200, 1 << 20))
    assert {(0, 200): 25, (1, 422): 25, (2, 503): 25, (3, 200): 25} == counts
    assert (found["latency"] > 0).all()
    assert (np.diff(found["due"]) >= 0).all()


def test_without_a_free_connection_nothing_is_sent(tmp_path: Path) -> None:
    """A server that never answers holds one request a connection: the rest stay unsent, and none is forgotten."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        counts, _ = offer(silent.getsockname()[1], tmp_path, post(200, 0), connections=3, grace=0.1)
    assert {(0, 0): 97, (0, 2): 3} == counts


def document(*command: str) -> Any:
    """Run a script of bench/ and return what its last line says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.e2e
@pytest.mark.slow
def test_soak(flowers: Made) -> None:
    """Twenty seconds of good requests, bad ones and scrapes: each is answered as it deserves."""
    found = document("bench/soak.py", str(flowers.artifact), "--minutes", "0.34", "--rate", "100")
    assert {} == found["wrong"]
    assert 2000 == found["answers"] + found["unsent"]


@needs_wrk
@pytest.mark.e2e
@pytest.mark.slow
def test_stacks_of_this_environment(tmp_path: Path) -> None:
    """The stacks that need no peer's environment give the service's answers, in every dialect."""
    stacks = ("ours through Flask", "ceiling", "orjson, bare WSGI", "orjson, Flask view")
    found = document("bench/serve.py", "matrix", "--quick", "--cells", "1x64", "--only", *stacks)
    assert {"ours", "ours, V2 binary", "ceiling, octet-stream", *stacks} <= found["matrix"]["1x64"].keys()


@needs_wrk
@pytest.mark.e2e
@pytest.mark.slow
def test_overload(tmp_path: Path) -> None:
    """Twice the peak for a second: what falls due is answered, refused or unsent."""
    found = document("bench/overload.py", "digits", "--rounds", "1", "--seconds", "1", "--factors", "2")
    assert 0 == found["digits"]["2x"]["failed"]
