"""The servers that are asked: artifacts made by the commands, served by the command, watched from outside."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DEADLINE_SECONDS = 120
TROUBLE = re.compile(r"Traceback|request failed|panicked|Error\b")
"""In the log of a server that was only asked things."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def workers(self) -> set[int]:
        """Return the ids of its worker processes."""
        return {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}

    def megabytes(self) -> float:
        """Return the proportional set size of its process tree."""
        parent = psutil.Process(self.process.pid)
        return (
            sum(p.memory_full_info().pss for p in (parent, *parent.children(recursive=True))) / 1e6
        )

    def trouble(self) -> list[str]:
        """Return the lines of its log that tell of a fault."""
        return [
            line
            for line in self.log.read_text(errors="replace").splitlines()
            if TROUBLE.search(line)
        ]


@contextlib.contextmanager
def serving(
    artifact: Path, log: Path, environment: Mapping[str, str], port: int = 0
) -> Iterator[Server]:
    """Serve an artifact until the end of the block; ready when it begins.

    Raises:
        RuntimeError: it did not become ready.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "service", "serve", str(artifact), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{' '.join(command)} did not become ready:\n{log.read_text(errors='replace')}"
                )
            time.sleep(0.01)
        yield Server(process, port, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ready(port: int) -> bool:
    """Say whether /readyz answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def publish(folder: Path) -> list[Path]:
    """Train and publish a classifier and a regressor, their names as awkward as a person's; return the artifacts."""
    random = np.random.default_rng(7)
    labels = np.arange(240) % 3
    x = random.normal(size=(240, 4)) + labels[:, None] * np.array([2.0, -1.5, 0.5, 3.0])
    lines = ['"petal, length",sepal width,größe,"year ""AD""",species']
    names = ("setosa", "versi, color", "vïrginica")
    lines += [
        f'{a:.4f},{b:.4f},{c:.4f},{2000 + round(d)},"{names[k]}"'
        for (a, b, c, d), k in zip(x, labels, strict=True)
    ]
    (folder / "flowers.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    size, age = random.uniform(20, 200, 240), random.integers(0, 100, 240)
    lines = ["size m²,age,constant,price €,rent"]
    noise = random.normal(size=(240, 2)) * np.array([10_000.0, 20.0])
    for s, a, (p, r) in zip(size, age, noise, strict=True):
        lines.append(f"{s:.2f},{a},0.1,{3000 * s - 500 * a + p:.2f},{12 * s - a + r:.2f}")
    (folder / "houses.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    fit = ("--hidden", "16", "--lr", "0.01", "--epochs", "20")
    for name, targets in (("flowers", ["species"]), ("houses", ["price €", "rent"])):
        options = [part for target in targets for part in ("--target", target)]
        run(folder, "model", "train", "--data", f"{name}.csv", *options, *fit)
        run(folder, "export", "build", f"runs/{name}/1")
    return [folder / "artifacts" / name / "1" for name in ("flowers", "houses")]


def run(folder: Path, *command: str) -> None:
    """Run one of the project's commands in a folder, quietly.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
