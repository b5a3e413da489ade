"""What SIGKILL leaves behind: every earlier run and version intact and usable, and nothing else after the next command.

    python tests/chaos/kill.py [KILLS] [--seed 0]

Kills `python -m model train` and `python -m export build` in turn at a random moment, half of them in their whole life,
half while they have a draft on disk, near its end. Then it loads every run and every version, and runs the same command
to its end. The last line of stdout is one JSON document; exit code 1 if anything was broken.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cli.staging import STAGING_PREFIX, numbered
from model.run import load_run
from service.runtime.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = {"train": "runs", "export": "artifacts"}
"""The command, and the folder that it writes to."""


class Line:
    """The two commands over one folder, and what stands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.life: dict[str, float] = {}  # seconds that a command took last
        self.writing: dict[
            str, float
        ] = {}  # of these, from its first draft on disk to the end of its last
        self.seed = (
            0  # of the last training: every run is another one, so there is something to publish
        )

    def start(self, kind: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own."""
        self.seed += kind == "train"
        train = ["model", "train", "--data", "wine", "--epochs", "20", "--seed", str(self.seed)]
        command = (
            train
            if kind == "train"
            else ["export", "build", "--artifacts", str(self.folder / "artifacts")]
        )
        command = [sys.executable, "-m", *command, "--runs", str(self.folder / "runs")]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def finish(self, kind: str) -> list[str]:
        """Run a command to its end; return what is wrong then."""
        started = time.perf_counter()
        process = self.start(kind)
        self.await_draft(process, kind)
        first = last = time.perf_counter()
        while process.poll() is None:
            last = time.perf_counter() if self.drafts(kind) else last
        self.life[kind], self.writing[kind] = time.perf_counter() - started, last - first
        wrong = [f"exit code {process.returncode}"] if process.returncode else []
        wrong += [f"{path} is left" for path in self.drafts(kind)]
        if kind == "export" and not (self.folder / "artifacts" / "wine" / "config.pbtxt").exists():
            wrong.append("config.pbtxt is missing")
        return wrong

    def kill(self, kind: str, moment: float, writing: bool) -> bool:
        """Kill a command so many seconds after its start, or its first draft; return whether it was still alive."""
        process = self.start(kind)
        if writing:
            self.await_draft(process, kind)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def await_draft(self, process: subprocess.Popen[bytes], kind: str) -> None:
        """Return when a command begins to write, or has ended."""
        while process.poll() is None and not self.drafts(kind):
            time.sleep(0.0005)

    def drafts(self, kind: str) -> list[Path]:
        """List what a command is writing, or has left half-made."""
        return list((self.folder / KINDS[kind]).glob(f"*/{STAGING_PREFIX}*"))

    def complete(self, kind: str) -> list[Path]:
        """List the numbered folders that a command has made."""
        parent = self.folder / KINDS[kind] / "wine"
        return [parent / str(number) for number in numbered(parent)]

    def hashes(self) -> dict[Path, str]:
        """Hash every file of every run and version."""
        files = [
            path for kind in KINDS for folder in self.complete(kind) for path in folder.iterdir()
        ]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def damage(self, before: dict[Path, str]) -> list[str]:
        """Say which run or version is no more what it was before, or cannot be used."""
        after = self.hashes()
        wrong = [f"{path} has changed" for path in before if before[path] != after.get(path)]
        for path in (*self.complete("train"), *self.complete("export")):
            try:
                load_run(path) if path.is_relative_to(self.folder / "runs") else Predictor(path)
            except (ValueError, OSError) as error:
                wrong.append(str(error))
        return wrong


def main() -> None:
    """Print one line per kill, then a table, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kills", nargs="?", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)  # noqa: S311 # reproducible, not secret
    totals = {kind: dict.fromkeys(("kills", "alive", "drafts left", "broken"), 0) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        line = Line(Path(folder))
        if wrong := line.finish("train") + line.finish("export"):
            raise SystemExit(f"the commands fail without a kill: {wrong}")
        print(
            f"seed {arguments.seed}; "
            + "; ".join(f"{kind} {line.life[kind]:.1f} s" for kind in KINDS)
        )
        for index in range(arguments.kills):
            kind, writing = list(KINDS)[index % 2], index % 4 < 2
            moment = moments.uniform(0, (line.writing if writing else line.life)[kind])
            before = line.hashes()
            alive = line.kill(kind, moment, writing)
            left = len(line.drafts(kind))
            wrong = line.damage(before) + line.finish(kind)
            for name, count in zip(totals[kind], (1, alive, left > 0, bool(wrong)), strict=True):
                totals[kind][name] += count
            after = f"{'killed' if alive else 'over'} {moment:5.2f} s after its {'first draft' if writing else 'start'}"
            print(
                f"{index + 1:3} {kind:6} {after:36} drafts left: {left}  {'; '.join(wrong) or 'intact'}",
                flush=True,
            )
    print(f"\n{'':8}" + "".join(f"{name:>13}" for name in totals["train"]))
    for kind, counts in totals.items():
        print(f"{kind:8}" + "".join(f"{count:13}" for count in counts.values()))
    print(json.dumps({"seed": arguments.seed, **totals}))
    sys.exit(any(counts["broken"] for counts in totals.values()))


if __name__ == "__main__":
    main()
