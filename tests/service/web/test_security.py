"""Tokens, CORS and the headers of pages, through the application's two ways in."""

import logging
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.settings import ServiceSettings, SettingsError
from service.web.app import create_app
from service.web.security import PUBLIC_PATHS, page_policy
from tests.stored import StoredArtifact

BODY = b'{"instances": [[1, 2, 3, 4]]}'
TOKEN = "-".join(("a", "token"))
ORIGIN = "https://a.example"


def client_of(made: StoredArtifact, **settings: object) -> FlaskClient:
    """Return a client of an application of its own."""
    return create_app(ServiceSettings(artifact=made.artifact, **settings)).test_client()  # type: ignore[arg-type]


@pytest.fixture
def locked(flowers: StoredArtifact, tmp_path: Path) -> FlaskClient:
    """A client of an application that knows two tokens."""
    (tmp_path / "tokens").write_text(f"# of the watchdog\nother\n\n{TOKEN}\n")
    return client_of(flowers, token_file=tmp_path / "tokens")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer  {TOKEN} "}, 200),
        ({"Authorization": "Bearer other"}, 200),
        ({"X-API-Key": TOKEN}, 200),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": "Bearer # of the watchdog"}, 401),
        ({"X-API-Key": TOKEN[:-1]}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "é"}, 401),
    ],
)
def test_tokens(
    locked: FlaskClient, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A known token opens every route, by either header; without one the answer is 401, and no token is in the log."""
    caplog.set_level(logging.DEBUG)
    for reply in (
        locked.post("/predict", data=BODY, headers=headers),
        locked.get("/model", headers=headers),
    ):
        assert status == reply.status_code
        assert (status == 401) == (reply.headers.get("WWW-Authenticate") == "Bearer")
    assert TOKEN not in caplog.text


def test_what_is_open_to_all(locked: FlaskClient) -> None:
    """Health is; whatever else there is, is not, whether it exists or does not."""
    assert {200} == {locked.get(path).status_code for path in PUBLIC_PATHS}
    closed = [
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/model",
        "/v2",
        "/v2/models/flowers",
        "/v1/models/flowers",
        "/no",
    ]
    assert {401} == {locked.get(path).status_code for path in closed}
    assert 401 == locked.get("/predict").status_code


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("# none\n", "found none"), ("é", "ASCII")]
)
def test_bad_token_files(tmp_path: Path, content: str | None, message: str) -> None:
    """A token file that cannot be used is one line that names the setting."""
    if content is not None:
        (tmp_path / "tokens").write_text(content)
    with pytest.raises(SettingsError, match=rf"^token_file: .*{message}"):
        ServiceSettings(token_file=tmp_path / "tokens").tokens()


def test_no_cors_unless_configured(flowers: StoredArtifact) -> None:
    """A page of another origin cannot read anything by default."""
    client = client_of(flowers)
    for reply in (
        client.post("/predict", data=BODY, headers={"Origin": ORIGIN}),
        client.options("/predict"),
    ):
        assert [] == [name for name, _ in reply.headers if name.startswith("Access-Control")]


def test_cors_of_an_allowed_origin(flowers: StoredArtifact) -> None:
    """The origin itself is named, predictions, errors and preflights alike; others get nothing but Vary."""
    client = client_of(flowers, cors_origins=f"{ORIGIN}, https://b.example")
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    for reply in (
        client.post("/predict", data=BODY, headers=asked),
        client.post("/predict", data=b"", headers=asked),
        client.get("/no", headers=asked),
        client.options("/predict", headers=asked),
    ):
        assert (ORIGIN, "Origin") == (
            reply.headers["Access-Control-Allow-Origin"],
            reply.headers["Vary"],
        )
    preflight = client.options("/predict", headers=asked).headers["Access-Control-Allow-Headers"]
    assert {"Authorization", "Content-Encoding", "Inference-Header-Content-Length"} <= set(
        preflight.split(", ")
    )
    assert (
        "POST" in client.options("/predict", headers=asked).headers["Access-Control-Allow-Methods"]
    )
    other = client.post("/predict", data=BODY, headers={"Origin": "https://c.example"})
    assert ("Origin", False) == (
        other.headers["Vary"],
        "Access-Control-Allow-Origin" in other.headers,
    )


def test_cors_of_all(flowers: StoredArtifact) -> None:
    """`*` is said as such."""
    reply = client_of(flowers, cors_origins="*").get("/readyz", headers={"Origin": ORIGIN})
    assert "*" == reply.headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_run_only_their_own(flowers: StoredArtifact, path: str) -> None:
    """A page's policy allows the style and script that bear its nonce, which is another one each time."""
    client = client_of(flowers)
    nonces = set()
    for _ in range(2):
        reply = client.get(path, headers={"Accept": "text/html"})
        policy = reply.headers["Content-Security-Policy"]
        nonce = re.findall(r"style-src 'nonce-([^']+)'", policy)[0]
        assert page_policy(nonce)[0] == ("Content-Security-Policy", policy)
        tags = re.findall(r"<(?:style|script)[^>]*>", reply.text)
        assert tags
        assert all(f'nonce="{nonce}"' in tag for tag in tags)
        assert [] == re.findall(r"<[^>]+ (?:on\w+|style)=", reply.text)
        assert "DENY" == reply.headers["X-Frame-Options"]
        nonces.add(nonce)
    assert 2 == len(nonces)
