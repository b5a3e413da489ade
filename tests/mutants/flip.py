"""Flip single bits of an artifact: is every one refused, by the service and by `python -m export verify`?

    python tests/mutants/flip.py [ARTIFACT] [--flips 1000] [--seed 0]

The files take turns, SHA256SUMS among them; the bit within a file is drawn. The last line of stdout is one JSON
document; exit code 1 if one passed.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from export import ProofError
from export.verify import verify
from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime import check
from service.runtime.predictor import Predictor

ASKED: dict[str, Callable[[Path], object]] = {
    "service": Predictor,
    "service check": check.check_artifact,
    "verify": verify,
}


def main() -> None:
    """Print a line per file, then the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", nargs="?", type=Path, default=Path("artifacts/digits"))
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = sorted({*storage.FILES, manifest.SUMS})
    tried = dict.fromkeys(names, 0)
    passed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(storage.find_version(arguments.artifact), Path(folder) / "1"))
        for name, call in ASKED.items():
            call(copy)  # healthy, or a refusal would say nothing
            print(f"{name}: the whole artifact passes")
        draw = random.Random(arguments.seed)  # noqa: S311 # positions, no secrets
        for number in range(arguments.flips):
            name = names[number % len(names)]
            passed += flip(copy, name, draw)
            tried[name] += 1
        if (copy / manifest.SUMS).read_bytes() != (
            storage.find_version(arguments.artifact) / manifest.SUMS
        ).read_bytes():
            raise SystemExit("the copy was not put back")
    for name, count in tried.items():
        print(f"{count:5} bits of {name}")
    for line in passed:
        print(f"PASSED: {line}")
    print(
        json.dumps(
            {
                "flips": arguments.flips,
                "seed": arguments.seed,
                "asked": list(ASKED),
                "passed": len(passed),
            }
        )
    )
    sys.exit(bool(passed))


def flip(copy: Path, name: str, draw: random.Random) -> list[str]:
    """Flip one bit of a file, ask everybody, and put it back; return who let it pass, and where."""
    content = (copy / name).read_bytes()
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    (copy / name).write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
    passed = []
    for asked, call in ASKED.items():
        try:
            call(copy)
            passed.append(f"{asked}: byte {at}, bit {bit} of {name}")
        except (ArtifactError, ProofError):
            pass
    (copy / name).write_bytes(content)
    return passed


if __name__ == "__main__":
    main()
