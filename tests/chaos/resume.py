"""What SIGKILL costs a fit: nothing but time. Killed at random moments and resumed each time, it ends in the same bits.

    python tests/chaos/resume.py [KILLS] [--seed 0]

One fit runs to its end undisturbed. Then fits with the same settings are killed at a random moment, `--resume`d and
killed again, until so many kills have struck; each fit that comes to its end is compared with the first by the SHA-256
of its weights. The last line of stdout is one JSON document; exit code 1 if any hash differs.
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

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = ["--data", "digits", "--epochs", "150", "--schedule", "cosine", "--save-every", "0"]


def start(runs: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a fit in a process group of its own."""
    command = [sys.executable, "-m", "model", "train", "--runs", str(runs), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def begun(runs: Path) -> bool:
    """Whether there is something to resume."""
    return any(runs.glob("*/resume-*"))


def wait(process: subprocess.Popen[bytes], runs: Path) -> None:
    """Return when the fit has saved its state for the first time, or the process has ended."""
    while process.poll() is None and not begun(runs):
        time.sleep(0.001)


def digests(runs: Path) -> set[str]:
    """Return the SHA-256 of the weights of every run: of two, where a kill struck just after the first was complete."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in runs.glob("*/*/weights.safetensors")
    }


def main() -> None:
    """Print a line per finished fit, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)  # noqa: S311 # reproducible, not secret
    with tempfile.TemporaryDirectory() as folder:
        process = start(Path(folder), *SETTINGS)
        wait(process, Path(folder))
        since = time.perf_counter()
        if process.wait():
            raise SystemExit("the fit fails without a kill")
        life = time.perf_counter() - since  # from its first save to its end
        (expected,) = digests(Path(folder))
    print(f"undisturbed: {expected}, {life:.1f} s from its first save", flush=True)

    resumed, late, fits, differ = 0, 0, 0, 0
    while resumed < arguments.kills:
        with tempfile.TemporaryDirectory() as folder:
            runs, struck = Path(folder), 0
            process = start(runs, *SETTINGS)
            while resumed < arguments.kills and struck < 3:
                wait(process, runs)
                try:
                    process.wait(timeout=moments.uniform(0, life))
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                if not begun(runs):  # the run was complete, and only about to say so
                    late += 1
                    break
                resumed, struck = resumed + 1, struck + 1
                process = start(runs, "--resume")
            process.wait()
            found = digests(runs)
        fits, differ = fits + 1, differ + (found != {expected})
        verdict = "the same bits" if found == {expected} else f"OTHER BITS: {found}"
        print(f"{resumed:3} kills resumed, {struck} of them in this fit: {verdict}", flush=True)
    print(
        json.dumps(
            {
                "kills resumed": resumed,
                "kills after the end": late,
                "fits": fits,
                "other bits": differ,
            }
        )
    )
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
