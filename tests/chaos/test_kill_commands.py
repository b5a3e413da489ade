"""SIGKILL during train and export: earlier runs and versions survive, the next command cleans up.

CHAOS_KILLS sets the number of kills (2), and CHAOS_SEED decides the moments (0).
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
FOLDERS = {"train": "runs", "export": "artifacts"}
"""The folder that each command writes to."""


class Workspace:
    """A folder that both commands work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Seconds that each command took last, and seconds between its first and last staging.
        self.total_seconds: dict[str, float] = {}
        self.staging_seconds: dict[str, float] = {}
        self.train_seed = 0

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own."""
        runs, artifacts = str(self.folder / "runs"), str(self.folder / "artifacts")
        arguments = ["export", "build", "--artifacts", artifacts, "--runs", runs]
        if command == "train":
            self.train_seed += 1  # Export publishes nothing for an unchanged run.
            arguments = ["model", "train", "--data", "wine", "--epochs", "20", "--runs", runs]
            arguments += ["--seed", str(self.train_seed)]
        arguments = [sys.executable, "-m", *arguments]
        return subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def staged(self, command: str) -> list[Path]:
        """Return the unpublished folders of a command."""
        return list((self.folder / FOLDERS[command]).glob(f"*/{STAGING_PREFIX}*"))

    def published(self, command: str) -> list[Path]:
        """Return the numbered folders of a command."""
        parent = self.folder / FOLDERS[command] / "wine"
        return [parent / str(number) for number in folder_numbers(parent)]

    def finish(self, command: str) -> list[str]:
        """Run a command to its end and return what is wrong afterwards."""
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
        """Kill a command some seconds after its start or first staging; return if it was alive."""
        process = self.start(command)
        if while_staging:
            until(lambda: self.staged(command) or process.poll() is not None)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def hashes(self) -> dict[Path, str]:
        """Return the hash of every published file."""
        folders = [folder for command in FOLDERS for folder in self.published(command)]
        files = [path for folder in folders for path in folder.iterdir()]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def damage(self, before: dict[Path, str]) -> list[str]:
        """Return which published files have changed, and which folders cannot be loaded."""
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
    """Half of the kills strike at any moment, half while the command has a staging folder."""
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
