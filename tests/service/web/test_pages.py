"""Tests of service.web.pages: the contents of / and /docs, and their security policy."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

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
    """Only the page's own style and script run, and no other host is contacted."""
    reply = client.get(path, headers=HTML)
    assert "DENY" == reply.headers["X-Frame-Options"]
    policy = dict(
        part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; ")
    )
    assert "'none'" == policy["default-src"]
    for element in ("style", "script"):
        texts = re.findall(f"<{element}>(.*?)</{element}>", reply.text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
        sources = [f"'sha256-{digest.decode()}'" for digest in digests] or ["'none'"]
        assert sources == policy[f"{element}-src"].split()
    for tag, attributes in Page(reply.text).elements:
        assert tag not in ("img", "link", "iframe", "form", "base")
        assert not [name for name in attributes if re.fullmatch("style|src|on.*", name)]
        assert not (attributes.get("href") or "").startswith(("http", "//"))


def test_values_in_a_page_cannot_run(artifact: Path, repack: Callable[[Path], None]) -> None:
    """A script in the name of a feature is escaped, and its hash is not in the policy."""
    script = "<script>alert()</script><!--root-->"
    text = (artifact / manifest.MANIFEST).read_text("utf-8").replace("sepal width", script)
    (artifact / manifest.MANIFEST).write_text(text, "utf-8")
    repack(artifact)
    client = create_app(ServiceSettings(artifact=artifact)).test_client()
    for path in ("/", "/docs"):
        reply = client.get(path, headers=HTML)
        assert html.escape(script) in reply.text
        assert script not in reply.text
        digest = base64.b64encode(hashlib.sha256(b"alert()").digest()).decode()
        assert digest not in reply.headers["Content-Security-Policy"]


def test_root_is_that_of_the_request(client: FlaskClient) -> None:
    """The command on the page names the host that the client has used, although it is cached."""
    for host in ("a.example", "b.example:8000"):
        page = client.get("/", headers=HTML, base_url=f"http://{host}").text
        assert f"curl http://{host}/predict -H" in page


def test_index(app: Flask, flowers: StoredArtifact) -> None:
    """The page names the model and its columns; its curl command sends the example."""
    page = app.test_client().get("/", headers=HTML).text
    digest = Predictor(flowers.artifact).digest
    names = ("flowers", "version 1", "classification", "petal, length", "vïrginica", digest)
    assert [] == [name for name in names if name not in page]
    assert "curl http://localhost/predict -H" in page
    command = html.unescape(page).split("-d '")[1].split("'</pre>")[0]
    assert json.loads((flowers.artifact / manifest.EXAMPLE).read_bytes()) == json.loads(command)


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
