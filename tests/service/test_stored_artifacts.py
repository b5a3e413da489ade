"""The artifacts under tests/data are the files that tests/data/make_artifacts.py wrote."""

import pytest

from service.artifact import storage
from tests.stored import FLOWERS, HOUSES, RETRAINED_FLOWERS, StoredArtifact


@pytest.mark.parametrize(
    ("stored", "digest"),
    [
        (FLOWERS, "cbefb84e745b4cc5b6fd2d46fef590c5d7b09f05d06c7f3e67edf72ac89831bb"),
        (HOUSES, "c7c1c3bd1bcce8fa1b5f72935761103515733918ce25af44048ae11194d6f61d"),
        (RETRAINED_FLOWERS, "e0a5b9e17768737ae63646bd6b6d6dec45890b94ee2e37b54b65ea677c5941ef"),
    ],
)
def test_digests_are_unchanged(stored: StoredArtifact, digest: str) -> None:
    """Whoever changes a stored file changes the digest here too."""
    assert digest == storage.read_artifact(stored.artifact).digest
