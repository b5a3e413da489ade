"""Test of a fork after the artifact has been loaded, as with `gunicorn --preload`."""

import subprocess
import sys

from service.runtime.versions import PRELOAD_PROBLEM
from tests.serving import DEADLINE_SECONDS, ROOT
from tests.stored import FLOWERS

FORK = """
import os, sys
from pathlib import Path
from service.errors import Refused
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.versions import Versions
load = lambda path: ServedModel(Predictor(path), None, 1)
options = {"check_schema": lambda manifest: None, "poll_seconds": 0.01}
versions = Versions(lambda: Path(sys.argv[1]), load, **options)
before = versions.current.predictor.digest
if not os.fork():
    try:
        versions.current
    except Refused as refused:
        print(refused.status, refused, flush=True)
    fresh = Versions(lambda: Path(sys.argv[1]), load, **options)
    print(fresh.current.predictor.digest == before, flush=True)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), versions.current.predictor.digest == before)
"""


def test_forked_process_must_load_its_own_version() -> None:
    """The child refuses requests with the reason until it loads the artifact itself."""
    command = [sys.executable, "-c", FORK, str(FLOWERS.artifact.parent)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    expected = f"503 not ready: {PRELOAD_PROBLEM}\nTrue\n3 True\n"
    assert (expected, 0) == (result.stdout, result.returncode), result.stderr
