"""SIGKILL during train and export damages no published file, and a killed fit can be resumed.

CHAOS_KILLS sets the number of killed commands (default: 2), CHAOS_RESUMES the number of fits that
are killed and resumed (2), and CHAOS_SEED the seed of the random kill times (0).
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from cli.staging import STAGING_PREFIX, folder_numbers
from model.run import load_run
from service.runtime.predictor import Predictor
from tests.serving import ROOT, until

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

KILLS = int(os.environ.get("CHAOS_KILLS", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
RESUMES = int(os.environ.get("CHAOS_RESUMES", "2"))
MAX_KILLS_PER_FIT = 3
SETTINGS = ("--data", "digits", "--epochs", "150", "--schedule", "cosine", "--save-every", "0")
FOLDERS = {"train": "runs", "export": "artifacts"}
"""The folder that each command writes to."""


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill the group of a process after some seconds; return whether it was alive."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


class Workspace:
    """A folder with the runs and the artifacts of both commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # By command: seconds of its last complete run, and seconds in which it had a draft.
        self.total_seconds: dict[str, float] = {}
        self.staging_seconds: dict[str, float] = {}
        self.train_seed = 0

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command with arguments that make it publish a new folder."""
        runs, artifacts = str(self.folder / "runs"), str(self.folder / "artifacts")
        arguments = ["export", "build", "--artifacts", artifacts, "--runs", runs]
        if command == "train":
            self.train_seed += 1  # Export publishes nothing for an unchanged run.
            arguments = ["model", "train", "--data", "wine", "--epochs", "20", "--runs", runs]
            arguments += ["--seed", str(self.train_seed)]
        return start(*arguments)

    def staged(self, command: str) -> list[Path]:
        """Return the unpublished folders of a command."""
        return list((self.folder / FOLDERS[command]).glob(f"*/{STAGING_PREFIX}*"))

    def published(self, command: str) -> list[Path]:
        """Return the numbered folders of a command."""
        parent = self.folder / FOLDERS[command] / "wine"
        return [parent / str(number) for number in folder_numbers(parent)]

    def finish(self, command: str) -> list[str]:
        """Run a command to its end; return what is wrong afterwards."""
        started = time.perf_counter()
        process = self.start(command)
        stagings: list[float] = []

        def ended() -> bool:
            if self.staged(command):
                stagings.append(time.perf_counter())
            return process.poll() is not None

        until(ended)
        self.total_seconds[command] = time.perf_counter() - started
        self.staging_seconds[command] = stagings[-1] - stagings[0] if stagings else 0.0
        wrong = [f"exit code {process.returncode}"] if process.returncode else []
        wrong += [f"{path} is left" for path in self.staged(command)]
        if command == "export" and not (self.folder / "artifacts/wine/config.pbtxt").exists():
            wrong.append("config.pbtxt is missing")
        return wrong

    def kill(self, command: str, seconds: float, while_staging: bool) -> bool:
        """Kill a command some seconds after its start or first draft; return if it still ran."""
        process = self.start(command)
        if while_staging:
            until(lambda: self.staged(command) or process.poll() is not None)
        return kill_after(process, seconds)

    def hashes(self) -> dict[Path, str]:
        """Return the hash of every published file."""
        folders = [folder for command in FOLDERS for folder in self.published(command)]
        files = [path for folder in folders for path in folder.iterdir()]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def damage(self, before: dict[Path, str]) -> list[str]:
        """Return the published files that have changed, and the errors of loading the folders."""
        after = self.hashes()
        wrong = [f"{path} has changed" for path in before if before[path] != after.get(path)]
        for command, read in (("train", load_run), ("export", Predictor)):
            for path in self.published(command):
                try:
                    read(path)
                except (ValueError, OSError) as error:
                    wrong.append(str(error))
        return wrong


def test_killed_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kills at any moment, or while a draft exists, damage nothing and leave nothing behind."""
    moments = random.Random(SEED)  # noqa: S311 # not used for cryptography
    workspace, counts = Workspace(tmp_path), Counter[str]()
    assert [] == workspace.finish("train") + workspace.finish("export")
    for kill in range(KILLS):
        command, while_staging = list(FOLDERS)[kill % 2], kill % 4 < 2
        seconds = workspace.staging_seconds if while_staging else workspace.total_seconds
        moment = moments.uniform(0, seconds[command])
        before = workspace.hashes()
        counts["alive"] += workspace.kill(command, moment, while_staging)
        counts["with a staging folder left"] += bool(workspace.staged(command))
        wrong = workspace.damage(before) + workspace.finish(command)
        assert [] == wrong, f"kill {kill} of {command} after {moment:.3f} s"
    with capsys.disabled():
        figures = "".join(f", {count} {name}" for name, count in counts.items())
        print(f"\n{KILLS} kills of commands, seed {SEED}{figures}; nothing was damaged")


def start_fit(runs: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a fit and wait for its first checkpoint or its end."""
    process = start("model", "train", "--runs", str(runs), *arguments)
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
    process, kills = start_fit(runs, *SETTINGS), 0
    while kills < max_kills:
        if not kill_after(process, moments.uniform(0, seconds)):
            break
        if not has_checkpoint(runs):
            return kills  # The run was already published when the process was killed.
        kills += 1
        process = start_fit(runs, "--resume")
    assert process.wait() == 0
    return kills


def test_killed_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fit that is killed and resumed ends with the same weights as an undisturbed fit."""
    moments = random.Random(SEED)  # noqa: S311 # not used for cryptography
    process = start_fit(tmp_path / "undisturbed", *SETTINGS)
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
