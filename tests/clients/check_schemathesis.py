"""schemathesis asks a real server what its description allows, and what it does not: `make test-clients` runs this."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT, free_port, granian, serving
from tests.stored import StoredArtifact

COMMANDS = ROOT / ".peers" / "schemathesis" / "bin"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize(("name", "secured"), [("flowers", True), ("houses", False)])
def test_schemathesis_finds_nothing(
    name: str, secured: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The description is OpenAPI 3.1; what is valid by it is answered as it says, and all else is refused."""
    made: StoredArtifact = request.getfixturevalue(name)
    tokens, described = tmp_path / "tokens", tmp_path / "openapi.json"
    tokens.write_text("token\n")
    options = [
        "--no-access-log",
        "--max-rows",
        "64",
        *(("--token-file", str(tokens)) if secured else ()),
    ]
    port = free_port()
    with serving(granian(made.artifact, port, *options), port) as server:
        status, document = server.request("GET", "/openapi.json", **{"X-API-Key": "token"})
        assert (200, secured) == (status, "security" in document)
        described.write_text(json.dumps(document))
        subprocess.run([COMMANDS / "openapi-spec-validator", described], check=True)
        command = (
            f"{COMMANDS}/schemathesis --config-file {CONFIGURATION} run {described} --checks all"
        )
        ran = subprocess.run(
            [*command.split(), "--url", f"http://127.0.0.1:{port}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": "token"},
            capture_output=True,
            text=True,
        )
        assert 0 == ran.returncode, ran.stdout + ran.stderr
