"""The images: built by a real engine, run without rights, without a network and on a read-only file system.

Without a network the containers need no free port, and nothing in them can depend on reaching out.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from tests.serving import DEADLINE_SECONDS, ROOT
from tests.stored import StoredArtifact

pytestmark = pytest.mark.container

HARDENED = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
LIMITED = (*HARDENED, "--pids-limit=64", "--memory=256m")

# 127.0.0.2 is no address of a server that listens on 127.0.0.1 alone, and nobody outside would reach it.
CLIENT = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.2", 8000, timeout=10)
connection.request(sys.argv[1], sys.argv[2], sys.argv[3], {"Content-Type": "application/json"})
answer = connection.getresponse()
sys.stdout.buffer.write(b"%d " % answer.status + answer.read())
"""


@dataclass(frozen=True)
class Container:
    """A container that was started, and may have ended."""

    id: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the user of the image."""
        return docker("exec", self.id, *command, check=False)

    def request(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Send one request from inside; return the status, or 0 where nobody answers, and the body."""
        status, _, reply = self.execute(
            "python", "-c", CLIENT, method, path, body
        ).stdout.partition(" ")
        return int(status or 0), reply

    def inspect(self, template: str) -> str:
        """Return what the engine knows, by a Go template."""
        return docker("inspect", "--format", template, self.id).stdout.strip()

    def log(self) -> str:
        """Return what it printed."""
        printed = docker("logs", self.id)
        return printed.stdout + printed.stderr

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; fail with the log when the container ends or time is up."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if self.inspect("{{.State.Running}}") == "false" or time.monotonic() > deadline:
                pytest.fail(f"{what} was awaited: {self.log()}")

    def stop(self) -> int:
        """Stop it as an orchestrator does, SIGTERM and ten seconds later SIGKILL; return the exit code."""
        docker("stop", "--time=10", self.id)
        return int(self.inspect("{{.State.ExitCode}}"))


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the engine's client, with BuildKit where that is a choice."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=environment)
    if check and done.returncode:
        pytest.fail(f"docker {' '.join(arguments)}: {done.stderr}")
    return done


@contextlib.contextmanager
def running(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
    """Start a container, and remove it at the end."""
    container = Container(docker("run", "--detach", *options, image, *command).stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)


@pytest.fixture(scope="session")
def engine() -> None:
    """An engine that answers and holds the base image; else the test is skipped."""
    if not shutil.which("docker"):
        pytest.skip("no docker command")
    if docker("version", check=False).returncode:
        pytest.skip("no Docker engine answers")
    found = re.search("^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    if docker("image", "inspect", found[1], check=False).returncode:
        pytest.skip(f"the engine does not hold the base image: docker pull {found[1]}")


def build(target: str) -> Iterator[str]:
    """Build a target from the working tree, under a name of this process's own that goes at the end."""
    tag = f"twolayernet-test-{target}:{os.getpid()}"
    options = (
        () if target == "serve" else ("--target", target)
    )  # what a plain `docker build` makes is the server
    docker("build", "--network=host", "--quiet", "--tag", tag, *options, str(ROOT))
    yield tag
    docker("rmi", "--no-prune", tag)


@pytest.fixture(scope="session")
def image(engine: None) -> Iterator[str]:
    """The image that serves."""
    yield from build("serve")


@pytest.fixture(scope="session")
def mount(flowers: StoredArtifact) -> str:
    """The option that shows the published artifacts to a container."""
    return f"--volume={flowers.artifact.parent.parent}:/artifacts:ro"


@pytest.fixture(scope="session")
def server(image: str, mount: str) -> Iterator[Container]:
    """A ready container without rights, started by nothing but the image's own command."""
    with running(image, *LIMITED, mount) as container:
        container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        yield container


def test_predicts(server: Container, app: Flask, flowers: StoredArtifact) -> None:
    """The answer to the artifact's own example is the one that the application gives outside of the image."""
    body = (flowers.artifact / "example.json").read_text(encoding="utf-8")
    expected = app.test_client().post("/predict", data=body).get_json()
    status, reply = server.request("POST", "/predict", body)
    actual = json.loads(reply)
    assert 200 == status
    assert (
        pytest.approx(expected.pop("probabilities")[0], abs=1e-6) == actual.pop("probabilities")[0]
    )
    assert expected == actual


def test_becomes_healthy(server: Container) -> None:
    """The engine's own check finds the service ready."""
    server.wait("health", lambda: server.inspect("{{.State.Health.Status}}") == "healthy")


def test_is_unhealthy_where_it_is_not_ready(image: str, artifact: Path) -> None:
    """A damaged artifact is answered with 503, and the health check fails though the process is alive."""
    (artifact / "model.onnx").write_bytes(b"damaged")
    with running(image, *LIMITED, f"--volume={artifact.parent}:/artifacts/flowers:ro") as container:
        container.wait("an answer", lambda: container.request("GET", "/healthz")[0] == 200)
        check = json.loads(container.inspect("{{json .Config.Healthcheck.Test}}"))
        assert 503 == container.request("GET", "/readyz")[0]
        assert ["CMD", "python"] == check[:2]
        assert 1 == container.execute(*check[1:]).returncode


def test_runs_without_rights(server: Container) -> None:
    """The user is a number other than root's, every capability is gone, and none can be gained."""
    status = dict(
        re.findall(r"^(\w+):\s*(.*)$", server.execute("cat", "/proc/1/status").stdout, re.MULTILINE)
    )
    user = server.inspect("{{.Config.User}}").partition(":")[0]
    assert user.isdecimal()
    assert int(user) > 0
    assert [user] * 4 == status["Uid"].split()
    assert {0} == {
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    assert "1" == status["NoNewPrivs"]


@pytest.mark.parametrize("module", ["torch", "onnx", "model", "export", "pip", "setuptools"])
def test_cannot_import(server: Container, module: str) -> None:
    """Nothing of training, and nothing that installs, is in the image's environment."""
    find = f"import importlib.util as util; assert util.find_spec('service'); print(util.find_spec('{module}'))"
    assert "None\n" == server.execute("python", "-c", find).stdout


def test_holds_one_room(server: Container) -> None:
    """Of the project's folders and files the image holds service/ alone."""
    assert "service\n" == server.execute("ls", "-A", "/app").stdout


def test_writes_nothing_where_it_could(image: str, mount: str) -> None:
    """Started as root and with everything writable it leaves no file: no bytecode, no telemetry, no cache."""
    with running(image, "--network=none", "--user=0", mount) as container:
        container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        assert "A /artifacts\n" == docker("diff", container.id).stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["ready", "starting"])
def test_stops_on_sigterm(image: str, mount: str, when: str, workers: int) -> None:
    """Exit code 0, not 137: nobody had to kill it, neither when serving nor while workers still load."""
    command = ("serve", "--host=0.0.0.0", f"--workers={workers}")
    with running(image, *LIMITED, mount, command=command) as container:
        if when == "ready":
            container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        else:
            container.wait("the first line", lambda: container.log() != "")
        assert 0 == container.stop()


def test_says_what_is_missing(image: str) -> None:
    """Without artifacts it ends with exit code 2 and one line."""
    done = docker("run", "--rm", *LIMITED, image, check=False)
    assert 2 == done.returncode
    assert "Error: /artifacts: nothing is published here" in done.stderr.splitlines()[-1]


@pytest.fixture(scope="session")
def train_image(engine: None) -> Iterator[str]:
    """The image that trains; skipped where building it would fetch PyTorch from the network."""
    if not list((ROOT / "wheels").glob("torch-*.whl")):
        pytest.skip(
            "no PyTorch wheel in wheels/: pip download --dest wheels --no-deps --constraint constraints.txt torch"
        )
    yield from build("train")


def test_trains_and_publishes(train_image: str, image: str, tmp_path: Path) -> None:
    """As whoever owns the mounted folders, it leaves a published artifact that the serving image proves again."""
    for folder in ("runs", "artifacts"):
        (tmp_path / folder).mkdir()
    own = f"--user={os.getuid()}:{os.getgid()}"
    volumes = (
        f"--volume={tmp_path}/runs:/app/runs",
        f"--volume={tmp_path}/artifacts:/app/artifacts",
    )
    docker("run", "--rm", own, *HARDENED, *volumes, train_image)
    assert {os.getuid()} == {path.stat().st_uid for path in tmp_path.rglob("*")}
    mount = f"--volume={tmp_path}/artifacts:/artifacts:ro"
    done = docker("run", "--rm", *LIMITED, mount, image, "check", "/artifacts/digits")
    assert "/artifacts/digits/1: whole, and its golden rows are reproduced" in done.stdout


def test_training_stops_on_sigterm(train_image: str) -> None:
    """Exit code 143, not 137: make as a first process would spin until it is killed."""
    with running(train_image, "--network=none") as container:
        container.wait(
            "the training process", lambda: "model train" in docker("top", container.id).stdout
        )
        assert 128 + signal.SIGTERM == container.stop()
