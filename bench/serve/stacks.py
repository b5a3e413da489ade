"""What bench/serve.py compares: the service, its peers and its ceiling, and the process of one of them."""

import contextlib
import functools
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from serve_dialects import MLFLOW, NATIVE, OCTETS, V2, V2_BINARY, Dialect, Probabilities, Question

BENCH = Path(__file__).resolve().parent
APPS = BENCH / "serve_peers"
TOLERANCE = 1e-5
"""Of a probability."""
DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Stack:
    """A server, and how to start it with one worker on one core."""

    name: str
    peer: str
    """The virtual environment under .peers; the project's own where it is empty."""
    command: Sequence[str]
    """Of that environment's Python; may name {artifact}, {port}, {folder} and {apps}."""
    dialects: Sequence[Dialect] = (NATIVE,)
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Sequence[str] = ()
    """A command to run once, before."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Content by name, in {folder}."""


SERVE = ("serve", "{artifact}", "--workers", "1", "--no-access-log", "--port", "{port}")
UVICORN = (
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
    "--workers",
    "1",
    "--no-access-log",
    "--log-level",
    "warning",
)
GUNICORN = (
    "--workers",
    "1",
    "--worker-class",
    "gthread",
    "--threads",
    "8",
    "--log-level",
    "warning",
)
OURS = Stack("ours", "", ("-m", "service", *SERVE), (NATIVE, OCTETS, V2, V2_BINARY))
STACKS = (
    OURS,
    Stack("ours through Flask", "", ("{apps}/ours_through_flask.py", *SERVE), (NATIVE, OCTETS)),
    Stack("ceiling", "", ("{apps}/hosted.py", "ceiling", "{port}"), (NATIVE, OCTETS)),
    Stack("orjson, bare WSGI", "", ("{apps}/hosted.py", "bare", "{port}")),
    Stack("orjson, Flask view", "", ("{apps}/hosted.py", "view", "{port}")),
    Stack("FastAPI, tuned", "fastapi", ("-m", "uvicorn", "fastapi_tuned:app", *UVICORN)),
    Stack("FastAPI, documented", "fastapi", ("-m", "uvicorn", "fastapi_documented:app", *UVICORN)),
    Stack(
        "Flask, gunicorn",
        "flask",
        ("-m", "gunicorn", "flask_documented:app", "--bind", "127.0.0.1:{port}", *GUNICORN),
    ),
    Stack("LitServe", "litserve", ("{apps}/litserve_documented.py", "{port}")),
    Stack(
        "BentoML",
        "bentoml",
        (
            "-m",
            "bentoml",
            "serve",
            "bentoml_documented:Network",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
        ),
        environment={"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    Stack(
        "MLServer",
        "mlserver",
        ("-c", "from mlserver.cli import main; main()", "start", "{folder}"),
        (V2,),
        environment={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port1}",
            "MLSERVER_METRICS_PORT": "{port2}",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_PARALLEL_WORKERS": "0",  # in its own process: on one core a fourth of the time
        },
        files={
            "model-settings.json": '{{"name": "{model}", "implementation": "mlserver_documented.Network"}}'
        },
    ),
    Stack(
        "MLflow",
        "mlflow",
        (
            *(
                "-m",
                "mlflow",
                "models",
                "serve",
                "--model-uri",
                "{folder}/model",
                "--env-manager",
                "local",
            ),
            *("--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
        ),
        (MLFLOW,),
        environment={"MLFLOW_DISABLE_TELEMETRY": "true", "UVICORN_ACCESS_LOG": "false"},
        prepare=("{apps}/mlflow_save.py", "{folder}/model"),
    ),
)


class Server:
    """A stack at work, held to a core; use it with `with`."""

    def __init__(
        self, stack: Stack, artifact: Path, core: int, folder: Path, peers: Path, **environment: str
    ) -> None:
        """Prepare, which may take seconds; start() starts it.

        Args:
            stack: what to start.
            artifact: artifacts/<name>/<version>, which it serves.
            core: it starts there, and measures there.
            folder: empty, and its own.
            peers: where the virtual environments are.
            environment: variables beside the stack's own.
        """
        self.stack, self.core, self.folder = stack, core, folder
        folder.mkdir(parents=True)
        self.port, *others = free_ports(3)
        self._names = {
            "artifact": artifact,
            "model": artifact.parent.name,
            "port": self.port,
            "port1": others[0],
            "port2": others[1],
            "folder": folder,
            "apps": APPS,
        }
        self._python = peers / stack.peer / "bin" / "python" if stack.peer else Path(sys.executable)
        given = {name: value.format(**self._names) for name, value in stack.environment.items()}
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(APPS) if stack.peer else f"{APPS}{os.pathsep}{BENCH.parent}",
            "PATH": f"{self._python.parent}{os.pathsep}{os.environ['PATH']}",
            "BENCH_MODEL": str(artifact / "model.onnx"),
            "ORT_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            **given,
            **environment,
        }
        for name, content in stack.files.items():
            (folder / name).write_text(content.format(**self._names))
        self._log = folder / "log.txt"
        if stack.prepare and self._run(stack.prepare).wait():
            raise SystemExit(f"{stack.name}: {self._log.read_text()}")
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._python), *(word.format(**self._names) for word in command)],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=functools.partial(os.sched_setaffinity, 0, {self.core}),
            )

    def start(self, question: Question) -> float:
        """Start it; return the seconds until it has answered the question."""
        began = time.perf_counter()
        self._process = self._run(self.stack.command)
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask(question)[0] == 200:
                    return time.perf_counter() - began
            if self._process.poll() is not None or time.perf_counter() - began > DEADLINE_SECONDS:
                raise SystemExit(
                    f"{self.stack.name} does not answer:\n{self._log.read_text()[-3000:]}"
                )
            time.sleep(0.002)

    def ask(self, question: Question) -> tuple[int, Mapping[str, str], bytes]:
        """Ask once, over a connection of its own; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", question.path, question.body, dict(question.headers))
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return reply.status, headers, reply.read()

    def check(self, dialect: Dialect, question: Question, expected: Probabilities) -> float:
        """Hold an answer to the probabilities expected; return the seconds that it took."""
        began = time.perf_counter()
        status, headers, body = self.ask(question)
        seconds = time.perf_counter() - began
        if status != 200:
            raise SystemExit(
                f"{self.stack.name}, {dialect.name}: expected status 200, found {status}: {body[:500]!r}"
            )
        found = dialect.read(headers, body, len(expected))
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=0, atol=TOLERANCE
        ):
            raise SystemExit(
                f"{self.stack.name}, {dialect.name}: expected {expected[0]}, found {found[0]}"
            )
        return seconds

    def move(self, core: int) -> None:
        """Hold every thread of the process tree to another core."""
        for process in self.tree():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for thread in Path(f"/proc/{process.pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), {core})

    @contextlib.contextmanager
    def at_work(self, parking: int) -> Iterator[None]:
        """Bring it to its core, and then away from it: what waits shall not disturb what is measured."""
        self.move(self.core)
        yield
        self.move(parking)

    def tree(self) -> list[psutil.Process]:
        """Return its processes."""
        assert self._process
        leader = psutil.Process(self._process.pid)
        return [leader, *leader.children(recursive=True)]

    def megabytes(self) -> float:
        """Return the proportional set size of the process tree."""
        return sum(process.memory_full_info().pss for process in self.tree()) / 1e6

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and what it started."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def cores(given: str, roles: int) -> list[int]:
    """Return the cores of 2,0,1, or the first that this process may use; the last has the roles that remain.

    Raises:
        SystemExit: the first, the server's, would not be its own.
    """
    usable = sorted(os.sched_getaffinity(0))
    chosen = [int(core) for core in given.split(",")] if given else usable[:roles]
    chosen += chosen[-1:] * (roles - len(chosen))
    if chosen[0] in chosen[1:] or not set(chosen) <= set(usable):
        raise SystemExit(
            f"expected two cores or more of {usable}, the first for the server alone, found {chosen}"
        )
    return chosen


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
