"""schemathesis sends valid and invalid requests derived from /openapi.json.

`make test-clients` installs its commands in .peers/schemathesis.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT, free_port, granian, serving
from tests.stored import FLOWERS, HOUSES, StoredArtifact

COMMANDS = ROOT / ".peers" / "schemathesis" / "bin"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.e2e,
    pytest.mark.skipif(not COMMANDS.exists(), reason="make test-clients installs schemathesis"),
]


@pytest.mark.parametrize(
    ("stored", "secured"), [(FLOWERS, True), (HOUSES, False)], ids=["flowers", "houses"]
)
def test_schemathesis(stored: StoredArtifact, secured: bool, tmp_path: Path) -> None:
    """The description is OpenAPI 3.1, and the replies to valid and invalid requests match it."""
    tokens, description = tmp_path / "tokens", tmp_path / "openapi.json"
    tokens.write_text("token\n")
    options = ["--no-access-log", "--max-rows", "64"]
    if secured:
        options += ["--token-file", str(tokens)]
    port = free_port()
    with serving(granian(stored.artifact, port, *options), port) as server:
        status, document = server.request("GET", "/openapi.json", **{"X-API-Key": "token"})
        assert (200, secured) == (status, "security" in document)
        description.write_text(json.dumps(document))
        subprocess.run([COMMANDS / "openapi-spec-validator", description], check=True)
        command = [COMMANDS / "schemathesis", "--config-file", CONFIGURATION, "run", description]
        completed = subprocess.run(
            [*map(str, command), "--checks", "all", "--url", f"http://127.0.0.1:{port}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": "token"},
            capture_output=True,
            text=True,
        )
    assert 0 == completed.returncode, completed.stdout + completed.stderr
