"""The compared servers: this service, its peers, and `ceiling` (an upper bound on throughput)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import REPOSITORY
from bench.serve.requests import (
    MLFLOW_JSON,
    NATIVE_BINARY,
    NATIVE_JSON,
    V2_BINARY,
    V2_JSON,
    Protocol,
)

PEERS_FOLDER = REPOSITORY / ".peers"
"""Folder with the virtual environments of the peers, which `make bench-serve` creates."""


@dataclass(frozen=True)
class Stack:
    """A server program, and the command and files that start it with one worker."""

    name: str
    command: Sequence[str]
    """Arguments for Python; may contain {artifact}, {port}, {folder} and {programs}."""
    peer: str = ""
    """Name of the virtual environment in PEERS_FOLDER; empty for that of the checkout."""
    protocols: Sequence[Protocol] = (NATIVE_JSON,)
    environment: Mapping[str, str] = field(default_factory=dict)
    setup: Sequence[str] = ()
    """Arguments of Python for a command to run once before the start."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Contents of the files to write to {folder} before the start, by name."""
    checkout: Path = REPOSITORY
    """Root of the checkout to import the service from; unused if `peer` is set."""

    @property
    def python(self) -> Path:
        """Return the interpreter that runs this stack."""
        if self.peer:
            return PEERS_FOLDER / self.peer / "bin" / "python"
        if self.checkout != REPOSITORY:
            return self.checkout / ".venv" / "bin" / "python"
        return Path(sys.executable)


SERVE = ("-m", "service", "serve", "{artifact}", "--port", "{port}", "--workers", "1")
HOST = ("--host", "127.0.0.1", "--port", "{port}")
UVICORN = (*HOST, "--workers", "1", "--no-access-log", "--log-level", "warning")
GUNICORN = (
    *("--bind", "127.0.0.1:{port}", "--workers", "1", "--worker-class", "gthread"),
    *("--threads", "8", "--log-level", "warning"),
)
MLSERVER_MODEL = '{{"name": "{model}", "implementation": "mlserver_documented.Network"}}'
ALL_PROTOCOLS = (NATIVE_JSON, NATIVE_BINARY, V2_JSON, V2_BINARY)

SERVICE = Stack("service", (*SERVE, "--no-access-log"), protocols=ALL_PROTOCOLS)
STACKS = (
    SERVICE,
    Stack("ceiling", ("{programs}/ceiling.py", "{port}"), "", (NATIVE_JSON, NATIVE_BINARY)),
    Stack("FastAPI, tuned", ("-m", "uvicorn", "fastapi_tuned:app", *UVICORN), "fastapi"),
    Stack("FastAPI, documented", ("-m", "uvicorn", "fastapi_documented:app", *UVICORN), "fastapi"),
    Stack("Flask, gunicorn", ("-m", "gunicorn", "flask_documented:app", *GUNICORN), "flask"),
    Stack("LitServe", ("{programs}/litserve_documented.py", "{port}"), "litserve"),
    Stack(
        "BentoML",
        ("-m", "bentoml", "serve", "bentoml_documented:Network", *HOST),
        "bentoml",
        environment={"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    Stack(
        "MLServer",
        ("-c", "from mlserver.cli import main; main()", "start", "{folder}"),
        "mlserver",
        (V2_JSON,),
        environment={
            **{"MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": "{port}"},
            "MLSERVER_GRPC_PORT": "{grpc_port}",
            "MLSERVER_METRICS_PORT": "{metrics_port}",
            "MLSERVER_DEBUG": "false",
            # 0 runs inference in the server's process, which is four times as fast on one core.
            "MLSERVER_PARALLEL_WORKERS": "0",
        },
        files={"model-settings.json": MLSERVER_MODEL},
    ),
    Stack(
        "MLflow",
        (
            *("-m", "mlflow", "models", "serve", "--model-uri", "{folder}/model"),
            *("--env-manager", "local", *HOST, "--workers", "1"),
        ),
        "mlflow",
        (MLFLOW_JSON,),
        environment={"MLFLOW_DISABLE_TELEMETRY": "true", "UVICORN_ACCESS_LOG": "false"},
        setup=("{programs}/mlflow_save.py", "{folder}/model"),
    ),
)


def services(against: Path | None) -> list[Stack]:
    """Return this service, and that of the checkout to compare with, if any."""
    if against is None:
        return [SERVICE]
    checkout = against.absolute()
    return [SERVICE, replace(SERVICE, name=f"service of {checkout}", checkout=checkout)]


def installed_stacks(names: Sequence[str]) -> list[Stack]:
    """Return the service and the named stacks, or all stacks if no name is given.

    A stack whose virtual environment is missing is omitted, with a message on stderr.
    """
    stacks = []
    for stack in STACKS:
        if stack is not SERVICE and names and stack.name not in names:
            continue
        if stack.python.exists():
            stacks.append(stack)
        else:
            missing = f"{PEERS_FOLDER / stack.peer} is missing; `make bench-serve` installs it"
            print(f"skipping {stack.name}: {missing}", file=sys.stderr)
    return stacks
