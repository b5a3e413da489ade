"""An artifact, loaded, checked against its golden rows, and ready to predict.

The session here is the one that serves and the one that export proves: one set of options.
"""

import os
from pathlib import Path

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime.self_test import check_golden_rows, check_signature
from service.runtime.session import Outputs, Rows, Session

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # read by onnxruntime at its import; on by default there


class Predictor:
    """A loaded artifact whose hashes and golden rows have been checked on this machine.

        Predictor("artifacts/houses/1").predict(rows)

    Attributes:
        manifest: what the artifact says of itself.
        digest: stands for every byte of it.
        path: artifacts/<name>/<version>.
        example: the body of a request that works, JSON.
        weight_bytes: of all its tensors, with the header of the file that holds them.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 1, expect_digest: str | None = None
    ) -> None:
        """Load artifacts/<name>/<version>, or the newest version of artifacts/<name>.

        Raises:
            ArtifactError: it is not whole, not the digest expected, or does not reproduce its golden rows.
        """
        artifact = storage.read_artifact(storage.find_version(Path(path)))
        if expect_digest not in (None, artifact.digest):
            raise ArtifactError(
                f"{artifact.path}: expected digest {expect_digest}, found {artifact.digest}"
            )
        self.path, self.digest, self.manifest = artifact.path, artifact.digest, artifact.manifest
        self.example = artifact.files[manifest.EXAMPLE]
        self.weight_bytes = len(artifact.files[manifest.WEIGHTS])
        self._session = Session(artifact.files[manifest.MODEL], threads)
        check_signature(self._session, self.manifest)
        check_golden_rows(self._session, artifact.files[manifest.GOLDEN])

    def predict(self, rows: Rows) -> Outputs:
        """Evaluate rows, (batch, in_features) float32 of raw feature values.

        Returns:
            regression: output, (batch, out_features) float32 in the targets' units.
            classification: logits and probabilities, (batch, classes) float32, and label, (batch,) int64,
            an index into manifest.classes.
        """
        return self._session.run(rows)
