"""Tests of service.web.pages: the contents of / and /docs, and their security policy."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.artifact import manifest
from service.runtime.predictor import Predictor
from service.settings import ServiceSettings
from service.web.app import create_app
from tests.stored import StoredArtifact

HTML = {"Accept": "text/html"}


class Page(HTMLParser):
    """Collects the elements of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module", params=["flowers", "houses"])
def client(request: pytest.FixtureRequest) -> FlaskClient:
    """A client of the classifier or of the regressor."""
    stored: StoredArtifact = request.getfixturevalue(request.param)
    return create_app(ServiceSettings(artifact=stored.artifact)).test_client()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_policy(client: FlaskClient, path: str) -> None:
    """Only elements with the nonce of the reply run, and no other host is contacted."""
    replies = [client.get(path, headers=HTML) for _ in range(2)]
    assert "DENY" == replies[0].headers["X-Frame-Options"]
    policies = [reply.headers["Content-Security-Policy"] for reply in replies]
    nonces = [re.findall(r"'nonce-([^']+)'", policy) for policy in policies]
    assert not set(nonces[0]) & set(nonces[1])
    elements = Page(replies[0].text).elements
    inline = [attributes for tag, attributes in elements if tag in ("style", "script")]
    assert {nonces[0][0]} == {*nonces[0]} == {attributes.get("nonce") for attributes in inline}
    for tag, attributes in elements:
        assert tag not in ("img", "link", "iframe", "form", "base")
        assert not [name for name in attributes if re.fullmatch("style|src|on.*", name)]
        assert not (attributes.get("href") or "").startswith(("http", "//"))


def test_index(app: Flask, flowers: StoredArtifact) -> None:
    """The page names the model and its columns; its curl command sends the example."""
    page = app.test_client().get("/", headers=HTML).text
    digest = Predictor(flowers.artifact).digest
    names = ("flowers", "version 1", "classification", "petal, length", "vïrginica", digest)
    assert [] == [name for name in names if name not in page]
    assert "curl http://localhost/predict -H" in page
    command = html.unescape(page).split("-d '")[1].split("'</pre>")[0]
    assert json.loads((flowers.artifact / manifest.EXAMPLE).read_bytes()) == json.loads(command)


def test_metrics_in_full_units(houses: StoredArtifact) -> None:
    """The page writes an error of thousands without an exponent."""
    client = create_app(ServiceSettings(artifact=houses.artifact)).test_client()
    rmse = Predictor(houses.artifact).manifest.metrics["test"]["rmse"]
    assert rmse > 1000
    assert f"rmse {rmse:,.0f}, mae" in client.get("/", headers=HTML).text


def test_docs(client: FlaskClient) -> None:
    """All operations and schemas have headings, links have targets, examples have buttons."""
    document = json.loads(client.get("/openapi.json").data)
    elements = Page(client.get("/docs").text).elements
    assert document == json.loads(client.get("/openapi.json").data)
    ids = {attributes["id"] for _, attributes in elements if attributes.get("id")}
    operations = [item for path in document["paths"].values() for item in path.values()]
    assert {operation["operationId"] for operation in operations} <= ids
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= ids
    links = {str(attributes["href"]) for tag, attributes in elements if tag == "a"}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    paths = {attributes["data-path"] for tag, attributes in elements if tag == "button"}
    assert {f".{path}" for path in document["paths"] if "/versions/" not in path} <= paths
