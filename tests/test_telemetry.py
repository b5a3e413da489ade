"""System calls show that onnxruntime, which sends telemetry by default, sends none here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT
from tests.stored import StoredArtifact
from tests.tables import write_flowers

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"
    ),
]
INTERNET_CONNECTION = r".*connect\(.*AF_INET.*"
SERVE = """
from pathlib import Path
import sys
from service.web.app import create_app
from service.settings import ServiceSettings
client = create_app(ServiceSettings(artifact=Path(sys.argv[1]))).test_client()
assert client.post("/predict", json={"instances": [[1, 2, 3, 4]]}).status_code == 200
"""
EXPORT = """
import sys
from model.__main__ import main as model
from export.__main__ import main as export
folder = sys.argv[1]
fit = ["train", "--data", folder + "/flowers.csv", "--target", "species", "--drop", "id"]
model([*fit, "--epochs", "2", "--runs", folder + "/runs"], standalone_mode=False)
export(["build", "--runs", folder + "/runs", "--artifacts", folder + "/artifacts"])
"""
WRITE_AND_CONNECT = """
import socket, sys
open(sys.argv[1] + "/file", "w").close()
socket.socket().connect_ex(("127.0.0.1", 9))
"""


def system_calls(code: str, argument: Path, home: Path) -> str:
    """Run code under strace with an empty home folder; return the log of connect and open calls."""
    log = home / "trace"
    # The service must disable telemetry itself. Coverage would write files.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "ORT_DISABLE_TELEMETRY" and not name.startswith("COV")
    }
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    strace = ["strace", "-f", "-e", "trace=connect,openat,mkdir,mkdirat,creat", "-o", str(log)]
    command = [*strace, sys.executable, "-c", code, str(argument)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return log.read_text()


def test_serving_writes_and_connects_nothing(flowers: StoredArtifact, tmp_path: Path) -> None:
    """Serving opens no file for writing, creates no folder and connects no socket."""
    calls = system_calls(SERVE, flowers.artifact, tmp_path)
    assert [] == re.findall(r".*(?:O_WRONLY|O_RDWR|O_CREAT)(?!.*/dev/(?:null|shm|tty)).*", calls)
    assert [] == re.findall(r".*mkdir.*= 0$", calls, re.MULTILINE)
    assert [] == re.findall(INTERNET_CONNECTION, calls)
    assert ["trace"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.slow
def test_export_connects_nothing(tmp_path: Path) -> None:
    """Training and export connect no socket; only matplotlib's cache appears in the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    write_flowers(tmp_path / "flowers.csv")
    calls = system_calls(EXPORT, tmp_path, home)
    assert [] == re.findall(INTERNET_CONNECTION, calls)
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert ["trace"] == [str(path) for path in files if "matplotlib" not in path.parts]


def test_trace_shows_writes_and_connections(tmp_path: Path) -> None:
    """The trace shows a written file and a connection, so the tests above can fail."""
    calls = system_calls(WRITE_AND_CONNECT, tmp_path, tmp_path)
    assert re.search(r"O_WRONLY", calls)
    assert re.search(INTERNET_CONNECTION, calls)
