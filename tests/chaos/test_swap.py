"""tests/chaos/swap.py: hot swaps under load, not one failed or mixed reply, and no bad version that answers."""

import json
import os
import subprocess
import sys

import pytest

from tests.serving import ROOT


@pytest.mark.e2e
@pytest.mark.slow
def test_ten_swaps() -> None:
    """Ten good versions and a bad one, seen by clients of two workers; `python tests/chaos/swap.py` does a hundred."""
    command = [sys.executable, "tests/chaos/swap.py", "10", "--workers", "2", "--clients", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    expected = {
        "swaps": 10,
        "failed": 0,
        "mixed": 0,
        "wrong": [],
        "bad_refused": 1,
        "refusals_logged": 2,
    }
    assert expected == {name: document[name] for name in expected}
    assert document["replies"] > 0
