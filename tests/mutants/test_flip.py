"""tests/mutants/flip.py: a flipped bit anywhere is refused by the service, `service check` and `export verify`."""

import json
import os
import subprocess
import sys

from service.artifact import manifest, storage
from tests.serving import ROOT
from tests.trained import Trained


def test_flipped_bits_are_refused(flowers: Trained) -> None:
    """Ten bits of every file; `python tests/mutants/flip.py` tries a thousand."""
    command = [
        sys.executable,
        "tests/mutants/flip.py",
        str(flowers.artifact),
        "--flips",
        "100",
        "--seed",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert {
        "flips": 100,
        "seed": 1,
        "asked": ["service", "service check", "verify"],
        "passed": 0,
    } == json.loads(lines[-1])
    assert [f"   10 bits of {name}" for name in sorted({*storage.FILES, manifest.SUMS})] == lines[
        3:-1
    ]
