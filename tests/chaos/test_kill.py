"""tests/chaos/kill.py: SIGKILL at any moment leaves what was there before, and the next command cleans up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.e2e
@pytest.mark.slow
def test_two_kills() -> None:
    """One of training and one of export, while they write: every run and version stays usable and as it was."""
    done = subprocess.run(
        [sys.executable, "tests/chaos/kill.py", "2"], cwd=ROOT, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    for kind in ("train", "export"):
        assert (1, 0) == (document[kind]["kills"], document[kind]["broken"])
