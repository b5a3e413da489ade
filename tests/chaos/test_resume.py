"""SIGKILL during a fit: resumed as often as it is killed, it ends with the same bits.

CHAOS_RESUMES sets the number of resumed kills (2), and CHAOS_SEED decides the moments (0).
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving import ROOT, until

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

RESUMES = int(os.environ.get("CHAOS_RESUMES", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
MAX_KILLS_PER_FIT = 3
SETTINGS = ("--data", "digits", "--epochs", "150", "--schedule", "cosine", "--save-every", "0")


def start(runs: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a fit in a process group of its own and wait for its first checkpoint or its end."""
    command = [sys.executable, "-m", "model", "train", "--runs", str(runs), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    until(lambda: has_checkpoint(runs) or process.poll() is not None)
    return process


def has_checkpoint(runs: Path) -> bool:
    """Return whether there is a fit to resume."""
    return any(runs.glob("*/resume-*"))


def weight_digests(runs: Path) -> set[str]:
    """Return the SHA-256 of the weights of every run."""
    files = runs.glob("*/*/weights.safetensors")
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def fit_with_kills(runs: Path, max_kills: int, moments: random.Random, seconds: float) -> int:
    """Run a fit to its end and return how often it was killed and resumed."""
    process, kills = start(runs, *SETTINGS), 0
    while kills < max_kills:
        try:
            process.wait(timeout=moments.uniform(0, seconds))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not has_checkpoint(runs):
            return kills  # The run was complete, and only the command had not ended yet.
        kills += 1
        process = start(runs, "--resume")
    assert process.wait() == 0
    return kills


def test_killed_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights of every killed and resumed fit have the hash of an undisturbed one's."""
    moments = random.Random(SEED)  # noqa: S311 # not used for cryptography
    process = start(tmp_path / "undisturbed", *SETTINGS)
    first_checkpoint = time.perf_counter()
    assert 0 == process.wait()
    seconds = time.perf_counter() - first_checkpoint
    expected = weight_digests(tmp_path / "undisturbed")
    assert 1 == len(expected)
    resumed, fits = 0, 0
    while resumed < RESUMES:
        runs = tmp_path / str(fits)
        max_kills = min(MAX_KILLS_PER_FIT, RESUMES - resumed)
        resumed += fit_with_kills(runs, max_kills, moments, seconds)
        assert expected == weight_digests(runs)
        fits += 1
    with capsys.disabled():
        print(f"\n{resumed} kills resumed in {fits} fits, seed {SEED}; all weights are the same")
