"""tests/chaos/workers.py: workers that are killed under load take nothing with them but what they had accepted."""

import json
import subprocess
import sys

import pytest

from tests.serving import ROOT
from tests.stored import StoredArtifact


@pytest.mark.e2e
@pytest.mark.slow
def test_kills(flowers: StoredArtifact) -> None:
    """Each is replaced, no reply is wrong, and no other connection breaks."""
    command = [
        sys.executable,
        "tests/chaos/workers.py",
        str(flowers.artifact),
        "--seconds",
        "4",
        "--every",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["kills"] >= 1
    assert {} == document["broken"]["elsewhere"]
    assert {"200"} == set(document["replies"]) == set(document["readyz"])
