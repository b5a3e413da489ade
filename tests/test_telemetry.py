"""onnxruntime reports home by default; here it does not, and this is watched from outside the process."""

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
from tests.trained import train_and_export

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"
    ),
]

SERVE = """
from pathlib import Path
import sys
from service.web.app import create_app
from service.settings import ServiceSettings
client = create_app(ServiceSettings(artifact=Path(sys.argv[1]))).test_client()
assert client.post("/predict", json={"instances": [[1, 2, 3, 4]]}).status_code == 200
"""


def trace(code: str, artifact: Path, home: Path, **environment: str) -> str:
    """Run code under strace with a new home; return the system calls that write, connect or make files."""
    log = home / "trace"
    # Without the switch, which the service must set itself, and without coverage, which writes files.
    clean = {
        key: value
        for key, value in os.environ.items()
        if key != "ORT_DISABLE_TELEMETRY" and not key.startswith("COV")
    }
    subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            "trace=connect,openat,mkdir,mkdirat,creat",
            "-o",
            str(log),
            sys.executable,
            "-c",
            code,
            str(artifact),
        ],
        cwd=ROOT,
        env={**clean, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        check=True,
    )
    return log.read_text()


def test_serving_writes_nothing_and_calls_nobody(flowers: StoredArtifact, tmp_path: Path) -> None:
    """Load, check and predict: no file is opened for writing, no folder made, no socket connected."""
    calls = trace(SERVE, flowers.artifact, tmp_path)
    assert [] == re.findall(r".*(?:O_WRONLY|O_RDWR|O_CREAT)(?!.*/dev/(?:null|shm|tty)).*", calls)
    assert [] == re.findall(r".*mkdir.*= 0$", calls, re.MULTILINE)
    assert [] == re.findall(r".*connect\(.*AF_INET.*", calls)
    assert ["trace"] == [path.name for path in tmp_path.iterdir()]


EXPORT = """
import sys
from export.__main__ import main
main(["build", sys.argv[1], "--artifacts", sys.argv[1] + "-artifacts"])
"""


def test_export_calls_nobody(tmp_path: Path) -> None:
    """Export, which proves through onnxruntime, connects no socket, and leaves matplotlib's cache alone at home."""
    csv = write_flowers(tmp_path / "flowers.csv")
    run = train_and_export(tmp_path, csv, "species", drop=("id",)).run.path
    home = tmp_path / "home"
    home.mkdir()
    calls = trace(EXPORT, run, home)
    assert [] == re.findall(r".*connect\(.*AF_INET.*", calls)
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert ["trace"] == [str(path) for path in files if "matplotlib" not in path.parts]


def test_the_watch_can_see(tmp_path: Path) -> None:
    """The same watch sees a file and a connection where there are some: the test above could fail."""
    code = "import socket, sys; open(sys.argv[1] + '/file', 'w').close(); socket.socket().connect_ex(('127.0.0.1', 9))"
    calls = trace(code, tmp_path, tmp_path)
    assert re.search(r"O_WRONLY", calls)
    assert re.search(r"connect\(.*AF_INET", calls)
