"""Write the artifacts that the service's tests use: `python -m tests.data.make_artifacts`.

Run this after a change of the artifact format, and copy the printed digests into
tests/service/test_stored_artifacts.py.
"""

import shutil
import tempfile
from pathlib import Path

from service.artifact import storage
from tests.tables import write_flowers, write_houses
from tests.trained import train_and_export

DATA = Path(__file__).parent


def main() -> None:
    """Train the three networks and replace the artifacts in this folder."""
    flowers, houses = write_flowers(DATA / "flowers.csv"), write_houses(DATA / "houses.csv")
    shutil.rmtree(DATA / "artifacts", ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fewer = write_flowers(folder / "flowers.csv", rows=120)
        for name, csv, target, drop in (
            ("flowers", flowers, "species", ("id",)),
            ("houses", houses, "price €", ()),
            ("retrained/flowers", fewer, "species", ("id",)),
        ):
            trained = train_and_export(folder / name, csv, target, drop)
            artifact = shutil.copytree(trained.artifact, DATA / "artifacts" / name / "1")
            print(name, storage.read_artifact(artifact).digest)


if __name__ == "__main__":
    main()
