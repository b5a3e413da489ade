"""Tests of service.web.security: tokens and CORS, for predictions and for Flask's views."""

import logging
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.settings import ServiceSettings, SettingsError
from service.web.app import create_app
from tests.stored import StoredArtifact

BODY = b'{"instances": [[1, 2, 3, 4]]}'
TOKEN = "-".join(("a", "token"))
ORIGIN = "https://a.example"


def client_of(stored: StoredArtifact, **settings: object) -> FlaskClient:
    """Return a client of a new application with these settings."""
    return create_app(ServiceSettings(artifact=stored.artifact, **settings)).test_client()  # type: ignore[arg-type]


@pytest.fixture
def locked(flowers: StoredArtifact, tmp_path: Path) -> FlaskClient:
    """A client of an application with two tokens."""
    (tmp_path / "tokens").write_text(f"# of the watchdog\nother\n\n{TOKEN}\n")
    return client_of(flowers, token_file=tmp_path / "tokens")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer  {TOKEN} "}, 200),
        ({"X-API-Key": TOKEN}, 200),
        ({"X-API-Key": "other"}, 200),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer # of the watchdog"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "é"}, 401),
    ],
)
def test_tokens(
    locked: FlaskClient, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A known token in either header grants access, and the log contains no token."""
    caplog.set_level(logging.DEBUG)
    replies = [
        locked.post("/predict", data=BODY, headers=headers),
        locked.get("/model", headers=headers),
        locked.get("/no", headers=headers),
    ]
    missing = 404 if status == 200 else status
    assert [status, status, missing] == [reply.status_code for reply in replies]
    for reply in replies:
        assert (status == 401) == (reply.headers.get("WWW-Authenticate") == "Bearer")
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("# none\n", "expected"), ("é", "ASCII")]
)
def test_bad_token_files(tmp_path: Path, content: str | None, message: str) -> None:
    """The error for an invalid token file names the setting."""
    if content is not None:
        (tmp_path / "tokens").write_text(content)
    with pytest.raises(SettingsError, match=rf"^token_file: .*{message}"):
        ServiceSettings(token_file=tmp_path / "tokens").tokens()


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (None, ORIGIN, (None, None)),
        (f"{ORIGIN}, https://b.example", ORIGIN, (ORIGIN, "Origin")),
        (f"{ORIGIN}, https://b.example", "https://c.example", (None, "Origin")),
        ("*", ORIGIN, ("*", "Origin")),
    ],
)
def test_cors(
    flowers: StoredArtifact, allowed: str | None, origin: str, expected: tuple[str | None, ...]
) -> None:
    """Predictions, errors and preflight replies name an allowed origin, and no other origin."""
    client = client_of(flowers, cors_origins=allowed)
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    replies = [
        client.post("/predict", data=BODY, headers=headers),
        client.post("/predict", data=b"", headers=headers),
        client.get("/no", headers=headers),
        client.options("/predict", headers=headers),
    ]
    for reply in replies:
        names = ("Access-Control-Allow-Origin", "Vary")
        assert expected == tuple(reply.headers.get(name) for name in names)
    if expected[0] is not None:
        preflight = replies[-1].headers
        assert "POST" in preflight["Access-Control-Allow-Methods"]
        assert {"Authorization", "Content-Encoding", "Inference-Header-Content-Length"} <= set(
            preflight["Access-Control-Allow-Headers"].split(", ")
        )
        assert "X-Request-ID" in replies[0].headers["Access-Control-Expose-Headers"]
