"""The Python interface for predictions with an artifact."""

from pathlib import Path

from service.artifact import manifest, storage
from service.artifact.manifest import ArtifactError
from service.runtime.self_test import check_golden_rows, check_signature
from service.runtime.session import Outputs, Rows, Session


class Predictor:
    """A loaded artifact; loading checks its hashes, its signature and its golden rows.

        Predictor("artifacts/houses/1").predict(rows)

    Attributes:
        manifest: contents of manifest.json.
        digest: SHA-256 of SHA256SUMS in hexadecimal, which identifies every byte of the artifact.
        path: version folder, artifacts/<name>/<version>.
        example: JSON body of a valid request to /predict.
        weight_bytes: size of weights.safetensors in bytes.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 1, expect_digest: str | None = None
    ) -> None:
        """Load artifacts/<name>/<version>, or the newest version of artifacts/<name>.

        Raises:
            ArtifactError: the artifact is damaged, has another digest, or fails its self-test.
        """
        artifact = storage.read_artifact(storage.find_version(Path(path)))
        if expect_digest not in (None, artifact.digest):
            digests = f"expected digest {expect_digest}, found {artifact.digest}"
            raise ArtifactError(f"{artifact.path}: {digests}")
        self.path, self.digest, self.manifest = artifact.path, artifact.digest, artifact.manifest
        self.example = artifact.files[manifest.EXAMPLE]
        self.weight_bytes = len(artifact.files[manifest.WEIGHTS])
        self._session = Session(artifact.files[manifest.MODEL], threads)
        check_signature(self._session, self.manifest)
        check_golden_rows(self._session, artifact.files[manifest.GOLDEN])

    def predict(self, rows: Rows) -> Outputs:
        """Evaluate rows of raw feature values, float32 (batch, in_features); thread-safe.

        Returns:
            For regression: output, float32 (batch, out_features) in the units of the targets.
            For classification: logits and probabilities, float32 (batch, classes), and label,
            int64 (batch,), indices into manifest.classes.
        """
        return self._session.run(rows)
