"""Artifacts to serve, and server processes to start, verify, measure and stop."""

import atexit
import contextlib
import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from bench import REPOSITORY
from bench.cores import pinning
from bench.serve.requests import HttpRequest, Probabilities, Protocol, Rows
from bench.serve.stacks import Stack
from service.artifact import storage

PROGRAMS = Path(__file__).resolve().parent / "peers"
ARTIFACT_HELP = (
    "artifact folder, or a network to train and export first: digits, or "
    "net-<in_features>-<hidden_features> (default: %(default)s)"
)
TRAINING_ROWS = 640
CLASSES = 10
PROBABILITY_TOLERANCE = 1e-5
"""Maximum absolute difference between a server's probability and the service's own."""
TIMEOUT_SECONDS = 60
"""Maximum number of seconds to wait for a server to start, and for each response."""
STOP_TIMEOUT_SECONDS = 10
POLL_SECONDS = 0.002


@functools.cache
def find_or_build_artifact(source: str) -> Path:
    """Return an artifact's folder, artifacts/<name>/<version>.

    Args:
        source: folder of an artifact, or a network to train and export for this process: `digits`,
            or `net-<in_features>-<hidden_features>`, which is fitted to random rows.
    """
    if Path(source).is_dir():
        return storage.find_version(Path(source)).absolute()
    print(f"training and exporting {source} ...", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    runs, artifacts, data = f"--runs={folder / 'runs'}", folder / "artifacts", f"{source}.npz"
    train = ["model", "train", "--epochs=1", runs]
    if source != "digits":
        in_features, hidden_features = source.removeprefix("net-").split("-")
        random = np.random.default_rng(0)
        x = random.standard_normal((TRAINING_ROWS, int(in_features)), np.float32)
        np.savez(folder / data, x=x, y=random.integers(CLASSES, size=TRAINING_ROWS))
        train += [f"--data={folder / data}", f"--hidden={hidden_features}"]
    for command in (train, ["export", "build", runs, f"--artifacts={artifacts}"]):
        arguments = [sys.executable, "-m", *command]
        process = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: {process.stderr}")
    return storage.find_version(artifacts / source)


def example_rows(network: str, count: int) -> Rows:
    """Return rows, (count, in_features), from the distribution that a network was fitted to."""
    if network == "digits":
        from sklearn.datasets import load_digits

        return np.resize(load_digits().data.astype(np.float32), (count, 64))
    in_features = int(network.removeprefix("net-").split("-")[0])
    return np.random.default_rng(1).standard_normal((count, in_features), np.float32)


class Server:
    """A process tree that serves one artifact on one core; a context manager that stops it."""

    def __init__(self, stack: Stack, artifact: Path, core: int, **environment: str) -> None:
        """Prepare the working directory, which may take seconds; `start` starts the server.

        `environment` adds variables to those of the stack.
        """
        self.stack, self.core = stack, core
        self.port, grpc_port, metrics_port = _free_ports(3)
        self._temporary = tempfile.TemporaryDirectory()
        self._folder = Path(self._temporary.name)
        self._fields: dict[str, object] = {
            **{"artifact": artifact, "model": artifact.parent.name},
            **{"port": self.port, "grpc_port": grpc_port, "metrics_port": metrics_port},
            **{"folder": self._folder, "programs": PROGRAMS},
        }
        packages = [PROGRAMS] if stack.peer else [PROGRAMS, stack.checkout]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, packages)),
            "PATH": f"{stack.python.parent}{os.pathsep}{os.environ['PATH']}",
            "BENCH_MODEL": str(artifact / "model.onnx"),
            **{"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
            **{name: text.format(**self._fields) for name, text in stack.environment.items()},
            **environment,
        }
        self._log = self._folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        for name, content in stack.files.items():
            (self._folder / name).write_text(content.format(**self._fields))
        if stack.setup and self._run(stack.setup).wait():
            raise SystemExit(f"{stack.name}: {self._log.read_text()}")

    def _run(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self.stack.python), *(word.format(**self._fields) for word in arguments)],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=pinning({self.core}),
            )

    def start(self, request: HttpRequest) -> float:
        """Start the server; return the seconds until the first reply with status 200."""
        started = time.perf_counter()
        self._process = self._run(self.stack.command)
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.send(request)[0] == 200:
                    return time.perf_counter() - started
            seconds = time.perf_counter() - started
            if self._process.poll() is not None or seconds > TIMEOUT_SECONDS:
                log = self._log.read_text()[-3000:]
                raise SystemExit(f"{self.stack.name} did not become ready:\n{log}")
            time.sleep(POLL_SECONDS)

    def send(self, request: HttpRequest) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request over a new connection; return status, headers (lower case) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, response.read()

    def verify(self, protocol: Protocol, request: HttpRequest, expected: Probabilities) -> float:
        """Check a response against the expected probabilities; return the seconds that it took.

        Raises:
            SystemExit: the status is not 200, or the probabilities differ from the expected ones.
        """
        started = time.perf_counter()
        status, headers, body = self.send(request)
        seconds = time.perf_counter() - started
        where = f"{self.stack.name}, {protocol.name}"
        if status != 200:
            raise SystemExit(f"{where}: expected status 200, found {status}: {body[:500]!r}")
        actual = protocol.probabilities(headers, body, len(expected))
        if actual.shape != expected.shape:
            raise SystemExit(f"{where}: expected shape {expected.shape}, found {actual.shape}")
        errors = np.abs(actual - expected).max(axis=1)
        if not (errors <= PROBABILITY_TOLERANCE).all():
            worst = int(errors.argmax())
            values = f"expected {expected[worst]}, found {actual[worst]}"
            raise SystemExit(f"{where}, row {worst}: {values}")
        return seconds

    def move_to(self, core: int) -> None:
        """Pin every thread of the process tree to a core."""
        for process in self._tree():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for thread in Path(f"/proc/{process.pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), {core})

    @contextlib.contextmanager
    def active(self, idle_core: int) -> Iterator[None]:
        """Run the server on its own core within the context, and on the idle core afterwards."""
        self.move_to(self.core)
        yield
        self.move_to(idle_core)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process that was started, and not to its children."""
        assert self._process
        self._process.send_signal(number)

    def worker_ids(self) -> set[int]:
        """Return the process IDs of all children of the process that was started."""
        return {process.pid for process in self._tree()[1:]}

    def memory_megabytes(self) -> float:
        """Return the proportional set size (PSS) of the process tree, in 10^6 bytes."""
        return sum(process.memory_full_info().pss for process in self._tree()) / 1e6

    def _tree(self) -> list[psutil.Process]:
        assert self._process
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def stop(self) -> float:
        """Stop the process tree with SIGTERM, then SIGKILL; return the seconds until it ended."""
        if self._process is None:
            return 0.0
        started = time.perf_counter()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOP_TIMEOUT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        return time.perf_counter() - started

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._temporary.cleanup()


def _free_ports(count: int) -> list[int]:
    """Return TCP ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]
