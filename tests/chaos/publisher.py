"""Versions of an artifact, good and bad, and the check of replies against the version they name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from cli.staging import publish, staged
from service.artifact import manifest, storage
from service.artifact.manifest import Manifest
from service.artifact.storage import Artifact
from service.runtime.predictor import Predictor
from tests.chaos.load import Check, LoadRequest
from tests.stored import FLOWERS, RETRAINED_FLOWERS

NAME = "flowers"
ROWS = np.repeat(FLOWERS.rows, 2, axis=0)[:64]
V2_INFER = 3
"""Index in REQUESTS of the V2 request with all rows."""


def post(path: str, count: int) -> LoadRequest:
    """Return a prediction request for `count` rows, in the format of the path; ROWS repeat."""
    rows = np.resize(ROWS, (count, ROWS.shape[1]))
    document: dict[str, Any] = {"instances": rows.tolist()}
    if path.endswith("/infer"):
        tensor = {"name": manifest.INPUT, "datatype": "FP32", "shape": list(rows.shape)}
        document = {"inputs": [tensor | {"data": rows.ravel().tolist()}]}
    return LoadRequest("POST", path, json.dumps(document).encode())


V1, V2 = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
PATHS = ("/predict", "/predict", V2, V2, V1)
ROW_COUNTS = (1, len(ROWS), 1, len(ROWS), len(ROWS))
REQUESTS = tuple(map(post, PATHS, ROW_COUNTS))


def read_reply(position: int, body: bytes) -> tuple[int | None, bytes]:
    """Return the version in a reply, if any, and its probabilities as float32 bytes."""
    document = json.loads(body)
    version: int | None = None
    if position < 2:
        version, values = int(document["model"]["version"]), document["probabilities"]
    elif position < 4:
        version = int(document["model_version"])
        (values,) = (o["data"] for o in document["outputs"] if o["name"] == "probabilities")
    else:
        values = [prediction["probabilities"] for prediction in document["predictions"]]
    return version, np.array(values, np.float32).tobytes()


def damage(files: dict[str, bytes], fault: str, other: Artifact) -> None:
    """Damage a version, or change its schema; only a flipped bit contradicts SHA256SUMS."""
    match fault:
        case "flipped bit":
            files[manifest.SUMS] = storage.sha256_sums(files)
            graph = files[manifest.MODEL]
            files[manifest.MODEL] = graph[:-1] + bytes([graph[-1] ^ 1])
        case "graph of another network":
            files[manifest.MODEL] = other.files[manifest.MODEL]
        case "version of another folder":
            files[manifest.MANIFEST] = dataclasses.replace(other.manifest, version=1).to_json()
        case "empty graph":
            files[manifest.MODEL] = b""
        case "reordered features":
            description = Manifest.from_json(files[manifest.MANIFEST])
            reordered = dataclasses.replace(description, features=description.features[::-1])
            files[manifest.MANIFEST] = reordered.to_json()


FAULTS = (
    *("reordered features", "flipped bit", "graph of another network"),
    *("version of another folder", "empty graph"),
)


class Publisher:
    """Publishes the versions of an artifact, and checks replies against their networks."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts
        paths = (FLOWERS.artifact, RETRAINED_FLOWERS.artifact)
        self.networks = [storage.read_artifact(path) for path in paths]
        # Expected float32 bytes, by network and index in REQUESTS.
        self.expected = [
            [Predictor(p).predict(ROWS[:n])["probabilities"].tobytes() for n in ROW_COUNTS]
            for p in paths
        ]
        assert self.expected[0] != self.expected[1]
        self.network_of_version: dict[int, int] = {}

    def publish(self, network: int, fault: str = "") -> int:
        """Publish a network as the next version, perhaps damaged, and return the version."""
        files = dict(self.networks[network].files)
        description = self.networks[network].manifest
        with staged(self.artifacts, NAME) as folder:

            def finish(version: int) -> None:
                renamed = dataclasses.replace(description, version=version)
                files[manifest.MANIFEST] = renamed.to_json()
                if fault:
                    damage(files, fault, self.networks[1 - network])
                else:
                    # Clients may receive replies of this version before `publish` returns.
                    self.network_of_version[version] = network
                files.setdefault(manifest.SUMS, storage.sha256_sums(files))
                for name, content in files.items():
                    (folder / name).write_bytes(content)

            files.pop(manifest.SUMS, None)
            return int(publish(folder, finish).name)

    def new_check(self) -> Check:
        """Return a check for the replies on one connection, whose versions must not decrease."""
        newest = 0

        def check(position: int, status: int, body: bytes) -> str | None:
            nonlocal newest
            if status != 200:
                return f"{status} {body[:200]!r}"
            version, bits = read_reply(position, body)
            if version is None:
                known = bits in [expected[position] for expected in self.expected]
                return None if known else "a reply without a version matches no network"
            if version not in self.network_of_version:
                return f"version {version} is damaged or unknown"
            if version < newest:
                return f"version {version} after version {newest} on one connection"
            newest = version
            if bits != self.expected[self.network_of_version[version]][position]:
                return f"a reply of version {version} has the wrong predictions"
            return None

        return check
