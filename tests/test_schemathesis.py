"""schemathesis asks the real service what its own description allows, and what it does not: `make test-clients`."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Made
from tests.serving import ROOT, free_port, granian, serving

COMMANDS = ROOT / ".peers" / "schemathesis" / "bin"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not COMMANDS.exists(), reason="make test-clients installs schemathesis"),
]


@pytest.mark.parametrize(("name", "secured"), [("flowers", True), ("houses", False)])
def test_schemathesis_finds_nothing(name: str, secured: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The description is OpenAPI 3.1; what is valid by it is answered by it, and everything else refused by it."""
    made: Made = request.getfixturevalue(name)
    (tmp_path / "tokens").write_text("token\n")
    environment = {"TWOLAYERNET_MAX_ROWS": "64", "TWOLAYERNET_ACCESS_LOG": "false"}  # nobody reads the log here
    if secured:
        environment["TWOLAYERNET_TOKEN_FILE"] = str(tmp_path / "tokens")
    port = free_port()
    with serving(granian(made.artifact, port), port, environment) as server:
        status, described = server.request("GET", "/openapi.json", **{"X-API-Key": "token"})
        assert (200, secured) == (status, "security" in described)
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(described))
        subprocess.run([COMMANDS / "openapi-spec-validator", path], check=True)
        ran = subprocess.run(
            [
                *(COMMANDS / "schemathesis", "--config-file", ROOT / "tests" / "schemathesis.toml", "run", path),
                *("--url", f"http://127.0.0.1:{port}", "--checks", "all"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": "token"},
            capture_output=True,
            text=True,
        )
        assert 0 == ran.returncode, ran.stdout + ran.stderr
