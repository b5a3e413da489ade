"""The container images, built by Docker and run without privileges, network and writable files.

Without a network the containers need no free port and cannot reach other hosts.
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

from service.settings import ServiceSettings
from service.web.app import create_app
from tests.serving import DEADLINE_SECONDS, ROOT
from tests.stored import StoredArtifact

pytestmark = pytest.mark.container

RESTRICTIONS = "--network=none --read-only --tmpfs=/tmp --cap-drop=ALL"
HARDENED = (*RESTRICTIONS.split(), "--security-opt=no-new-privileges")
LIMITED = (*HARDENED, "--pids-limit=64", "--memory=256m")

# A server bound only to 127.0.0.1 would be unreachable from outside the container. The client uses
# 127.0.0.2, where such a server is unreachable too.
CLIENT = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.2", 8000, timeout=10)
connection.request(sys.argv[1], sys.argv[2], sys.argv[3], {"Content-Type": "application/json"})
reply = connection.getresponse()
sys.stdout.buffer.write(b"%d " % reply.status + reply.read())
"""


@dataclass(frozen=True)
class Container:
    """A container that has been started."""

    id: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container as the user of the image."""
        return docker("exec", self.id, *command, check=False)

    def request(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Send a request inside the container; return status and body, or 0 without a reply."""
        output = self.execute("python", "-c", CLIENT, method, path, body).stdout
        status, _, reply = output.partition(" ")
        return int(status or 0), reply

    def inspect(self, template: str) -> str:
        """Return a property of the container, selected by a Go template."""
        return docker("inspect", "--format", template, self.id).stdout.strip()

    def log(self) -> str:
        """Return the container's output."""
        output = docker("logs", self.id)
        return output.stdout + output.stderr

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition; fail with the log if the container ends or the time is up."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if self.inspect("{{.State.Running}}") == "false" or time.monotonic() > deadline:
                pytest.fail(f"timeout or end of the container before {what}: {self.log()}")

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL after ten seconds; return the exit code."""
        docker("stop", "--time=10", self.id)
        return int(self.inspect("{{.State.ExitCode}}"))


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the docker command, with BuildKit."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    command = ["docker", *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, env=environment)
    if check and completed.returncode:
        pytest.fail(f"{' '.join(command)}: {completed.stderr}")
    return completed


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
    """Skip the test unless a Docker engine is running and has the base image."""
    if not shutil.which("docker"):
        pytest.skip("no docker command")
    if docker("version", check=False).returncode:
        pytest.skip("no Docker engine is running")
    base = re.search("^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base
    if docker("image", "inspect", base[1], check=False).returncode:
        pytest.skip(f"the engine lacks the base image: docker pull {base[1]}")


def build(target: str) -> Iterator[str]:
    """Build a target from the working tree; remove the image at the end."""
    tag = f"twolayernet-test-{target}:{os.getpid()}"
    # A plain `docker build` must build the serving image.
    options = () if target == "serve" else ("--target", target)
    docker("build", "--network=host", "--quiet", "--tag", tag, *options, str(ROOT))
    yield tag
    docker("rmi", "--no-prune", tag)


@pytest.fixture(scope="session")
def image(engine: None) -> Iterator[str]:
    """The serving image."""
    yield from build("serve")


@pytest.fixture(scope="session")
def mount(flowers: StoredArtifact) -> str:
    """The Docker option that mounts the artifact read-only."""
    return f"--volume={flowers.artifact.parent}:/artifacts/flowers:ro"


@pytest.fixture(scope="session")
def server(image: str, mount: str) -> Iterator[Container]:
    """A ready container without privileges, started by the image's own command."""
    with running(image, *LIMITED, mount) as container:
        container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        yield container


def test_predicts(server: Container, flowers: StoredArtifact) -> None:
    """The reply to the artifact's example is the same as outside the image."""
    app = create_app(ServiceSettings(artifact=flowers.artifact))
    body = (flowers.artifact / "example.json").read_text(encoding="utf-8")
    expected = app.test_client().post("/predict", data=body).get_json()
    status, reply = server.request("POST", "/predict", body)
    actual = json.loads(reply)
    assert 200 == status
    probabilities = pytest.approx(expected.pop("probabilities")[0], abs=1e-6)
    assert probabilities == actual.pop("probabilities")[0]
    assert expected == actual


def test_becomes_healthy(server: Container) -> None:
    """Docker reports the container as healthy."""
    server.wait("health", lambda: server.inspect("{{.State.Health.Status}}") == "healthy")


def test_is_unhealthy_unless_ready(image: str, artifact: Path) -> None:
    """With a damaged artifact, /readyz replies 503 and the health check fails."""
    (artifact / "model.onnx").write_bytes(b"damaged")
    with running(image, *LIMITED, f"--volume={artifact.parent}:/artifacts/flowers:ro") as container:
        container.wait("reply", lambda: container.request("GET", "/healthz")[0] == 200)
        check = json.loads(container.inspect("{{json .Config.Healthcheck.Test}}"))
        assert 503 == container.request("GET", "/readyz")[0]
        assert ["CMD", "python"] == check[:2]
        assert 1 == container.execute(*check[1:]).returncode


def test_runs_without_privileges(server: Container) -> None:
    """The server runs as a numeric user other than root, without capabilities."""
    text = server.execute("cat", "/proc/1/status").stdout
    status = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    user = server.inspect("{{.Config.User}}").partition(":")[0]
    assert user.isdecimal()
    assert int(user) > 0
    assert [user] * 4 == status["Uid"].split()
    capabilities = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {0} == {int(status[name], 16) for name in capabilities}
    assert "1" == status["NoNewPrivs"]


@pytest.mark.parametrize("module", ["torch", "onnx", "model", "export", "pip", "setuptools"])
def test_cannot_import(server: Container, module: str) -> None:
    """The image contains no training package and no installer."""
    code = f"from importlib.util import find_spec; print(find_spec('{module}'))"
    assert "None\n" == server.execute("python", "-c", code).stdout


def test_has_no_training_packages(server: Container) -> None:
    """The image contains only the service and the two packages that it imports."""
    assert "cli\nservice\ntabular\n" == server.execute("ls", "-A", "/app").stdout


def test_writes_no_files(image: str, mount: str) -> None:
    """Even as root with a writable file system the service writes no file."""
    with running(image, "--network=none", "--user=0", mount) as container:
        container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        # The engine creates the mount point.
        assert "A /artifacts\nA /artifacts/flowers\n" == docker("diff", container.id).stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["ready", "starting"])
def test_stops_on_sigterm(image: str, mount: str, when: str, workers: int) -> None:
    """SIGTERM ends the container with exit code 0, while it serves and while workers start."""
    command = ("serve", "--host=0.0.0.0", f"--workers={workers}")
    with running(image, *LIMITED, mount, command=command) as container:
        if when == "ready":
            container.wait("readiness", lambda: container.request("GET", "/readyz")[0] == 200)
        else:
            container.wait("output", lambda: container.log() != "")
        assert 0 == container.stop()


def test_missing_artifacts(image: str) -> None:
    """Without artifacts the container exits with code 2 and an error message."""
    completed = docker("run", "--rm", *LIMITED, image, check=False)
    assert 2 == completed.returncode
    assert completed.stderr.splitlines()[-1].startswith("Error: /artifacts: ")


@pytest.fixture(scope="session")
def train_image(engine: None) -> Iterator[str]:
    """The training image; skip the test if the build would download PyTorch."""
    if not list((ROOT / "wheels").glob("torch-*.whl")):
        download = "pip download --dest wheels --no-deps --constraint constraints.txt torch"
        pytest.skip(f"no PyTorch wheel in wheels/: {download}")
    yield from build("train")


def test_trains_and_publishes(train_image: str, image: str, tmp_path: Path) -> None:
    """The training image, run as the folders' owner, publishes a valid artifact."""
    for folder in ("runs", "artifacts"):
        (tmp_path / folder).mkdir()
    user = f"--user={os.getuid()}:{os.getgid()}"
    volumes = [f"--volume={tmp_path}/{name}:/app/{name}" for name in ("runs", "artifacts")]
    docker("run", "--rm", user, *HARDENED, *volumes, train_image)
    assert {os.getuid()} == {path.stat().st_uid for path in tmp_path.rglob("*")}
    mount = f"--volume={tmp_path}/artifacts:/artifacts:ro"
    completed = docker("run", "--rm", *LIMITED, mount, image, "check", "/artifacts/digits")
    assert "/artifacts/digits/1: " in completed.stdout


def test_training_stops_on_sigterm(train_image: str) -> None:
    """SIGTERM ends training with exit code 143; make as PID 1 would ignore the signal."""
    with running(train_image, "--network=none") as container:
        container.wait("training", lambda: "model train" in docker("top", container.id).stdout)
        assert 128 + signal.SIGTERM == container.stop()
