"""service.openapi and /docs: what is described is what is answered."""

import copy
import dataclasses
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.settings import ServiceSettings
from service.web import openapi
from service.web.app import create_app
from service.web.schemas import BEYOND_FLOAT32, schemas
from service.web.security import PUBLIC_PATHS
from tests.stored import StoredArtifact
from tests.tables import CLASSES

JSON = "application/json"
ROW = [1.0, 2.0, 3.0, 2001.0]
NAMES = ["petal, length", "sepal width", "größe", "year"]


@dataclasses.dataclass(frozen=True)
class Described:
    """An application, and what it says of itself."""

    client: FlaskClient
    document: dict[str, Any]

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield every path, method and operation, with a version in the path that is served."""
        version = self.document["components"]["parameters"]["version"]["schema"]["enum"][0]
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield path.replace("{version}", version), method, operation

    def faults(self, instance: object, schema: dict[str, Any]) -> list[str]:
        """Return what a schema of the document finds wrong with a value."""
        validator = Draft202012Validator({**schema, "components": self.document["components"]})
        return [error.message for error in validator.iter_errors(instance)]


@pytest.fixture(params=["flowers", "houses"])
def described(request: pytest.FixtureRequest) -> Described:
    """The classifier, and the regressor."""
    made: StoredArtifact = request.getfixturevalue(request.param)
    return describe(made)


@pytest.fixture
def flower(flowers: StoredArtifact) -> Described:
    """The classifier."""
    return describe(flowers)


@pytest.fixture
def described_with_token(flowers: StoredArtifact, tmp_path: Path) -> Described:
    """The classifier, for those who have a token."""
    (tmp_path / "tokens").write_text("token\n")
    return describe(flowers, token_file=tmp_path / "tokens")


def describe(made: StoredArtifact, **settings: Any) -> Described:
    """Make an application of an artifact, and ask it for its document."""
    chosen = ServiceSettings(
        artifact=made.artifact, max_body_bytes=100_000, max_rows=64, **settings
    )
    client = create_app(chosen).test_client()
    return Described(
        client, json.loads(client.get("/openapi.json", headers={"X-API-Key": "token"}).data)
    )


def value_of(reply: TestResponse) -> Any:
    """Return a reply's body as an example shows it."""
    return json.loads(reply.data) if reply.mimetype == JSON else reply.text


def test_it_is_openapi(described: Described) -> None:
    """The document is what the meta-schema of OpenAPI 3.1 asks for, and each of its schemas is a schema."""
    meta = json.loads((Path(__file__).parent / "data" / "openapi-3.1.json").read_bytes())
    assert [] == [
        error.message for error in Draft202012Validator(meta).iter_errors(described.document)
    ]
    for schema in described.document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in described.operations()]
    assert len(set(names)) == len(names)


def test_every_route_is_in_it(described: Described) -> None:
    """The paths and methods are those that Flask knows, no more and no less."""
    model = described.document["info"]["title"]
    routes = {
        (re.sub(r"<model>", model, rule.rule).replace("<version>", "{version}"), method.lower())
        for rule in described.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    stated = {
        (path, method) for path, item in described.document["paths"].items() for method in item
    }
    assert routes == stated


def test_examples_are_true(described: Described) -> None:
    """Every request that is shown is valid, and is answered as is shown, by a reply that is valid too."""
    shown = 0
    for path, _, operation in described.operations():
        asked = operation.get("requestBody", {"content": {}})["content"]
        given = operation["responses"]["200"]["content"]
        for form, content in asked.items():
            for name, example in content.get("examples", {}).items():
                assert [] == described.faults(example["value"], content["schema"])
                accept = next(
                    form for form, content in given.items() if name in content.get("examples", {})
                )
                body = json.dumps(example["value"]) if form == JSON else example["value"]
                reply = described.client.post(
                    path, data=body, content_type=form, headers={"Accept": accept}
                )
                assert (200, accept) == (reply.status_code, reply.mimetype)
                assert given[accept]["examples"][name]["value"] == value_of(reply)
                assert [] == described.faults(value_of(reply), given[accept]["schema"])
                shown += 1
    assert 3 + 2 * 2 + 2 * 2 == shown


def test_what_is_got_is_as_described(described: Described) -> None:
    """Every GET is answered 200, in each media type that is stated, and by its schema."""
    for path, method, operation in described.operations():
        for form, content in (
            operation["responses"]["200"]["content"].items() if method == "get" else ()
        ):
            reply = described.client.get(path, headers={"Accept": form})
            assert (200, form) == (reply.status_code, reply.mimetype), path
            assert [] == described.faults(value_of(reply), content["schema"]), path


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (400, {"data": lambda body: body[:-2]}),
        (401, {"X-API-Key": "no"}),
        (406, {"Accept": "image/png"}),
        (411, {"data": lambda _: b"1,2,3,4\n", "Content-Type": "text/csv", "chunked": True}),
        (413, {"data": lambda body: body.ljust(100_001)}),
        (415, {"Content-Type": "text/plain"}),
        (422, {"data": lambda body: re.sub(rb"\[\[[^,]*,", b"[[", body)}),
    ],
)
def test_refusals_are_as_described(
    described_with_token: Described, status: int, change: dict[str, Any]
) -> None:
    """Every error that a request can run into has the shape, the headers and the words that are stated."""
    described = described_with_token
    body = described.document["paths"]["/predict"]["post"]["requestBody"]["content"][JSON][
        "examples"
    ]["rows"]["value"]
    data = change.get("data", bytes)(json.dumps(body, separators=(",", ":")).encode())
    changed = {name: value for name, value in change.items() if name not in ("data", "chunked")}
    headers = {"Content-Type": JSON, "X-API-Key": "token", **changed}
    chunked = {
        "input_stream": io.BytesIO(data),
        "environ_overrides": {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    }
    reply = described.client.post(
        "/predict", headers=headers, **(chunked if "chunked" in change else {"data": data})
    )
    stated = described.document["components"]["responses"][str(status)]
    assert status == reply.status_code
    assert stated["content"][JSON]["example"] | {
        "request_id": value_of(reply)["request_id"]
    } == value_of(reply)
    assert [] == described.faults(value_of(reply), stated["content"][JSON]["schema"])
    assert set(stated["headers"]) <= set(reply.headers.keys())


def test_a_token_is_asked_for_where_it_is_needed(
    described_with_token: Described, flower: Described
) -> None:
    """With a token, every path says so but those that health is asked at; without, none does."""
    document = described_with_token.document
    assert [{"bearer": []}, {"key": []}] == document["security"]
    for path, method, operation in described_with_token.operations():
        reply = described_with_token.client.open(path, method=method.upper())
        assert (
            (path in PUBLIC_PATHS)
            == (operation.get("security") == [])
            == (reply.status_code == 200)
        )
        assert (path in PUBLIC_PATHS) == ("401" not in operation["responses"])
    assert "security" not in flower.document
    assert not any("401" in operation["responses"] for _, _, operation in flower.operations())


NEXT = {"name": "input", "shape": [1, 4], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("path", "body", "valid"),
    [
        ("/predict", {"instances": []}, True),
        ("/predict", {"instances": [dict(zip(NAMES, ROW, strict=True))] * 2}, True),
        ("/predict", {"instances": [ROW] * 64}, True),
        ("/predict", {"instances": [ROW] * 65}, False),
        ("/predict", {"instances": [[*ROW[1:], 3.4028235e38]]}, True),
        ("/predict", {"instances": [[*ROW[1:], BEYOND_FLOAT32]]}, False),
        ("/predict", {"instances": [[*ROW[1:], -BEYOND_FLOAT32]]}, False),
        ("/predict", {"instances": [ROW[1:]]}, False),
        ("/predict", {"instances": [[*ROW, 1]]}, False),
        ("/predict", {"instances": [[*ROW[1:], True]]}, False),
        ("/predict", {"instances": [[*ROW[1:], "1"]]}, False),
        ("/predict", {"instances": [[*ROW[1:], None]]}, False),
        ("/predict", {"instances": [dict(zip(NAMES[1:], ROW, strict=False))]}, False),
        ("/predict", {"instances": [{**dict(zip(NAMES, ROW, strict=True)), "more": 1}]}, False),
        ("/predict", {"instances": [ROW, dict(zip(NAMES, ROW, strict=True))]}, False),
        ("/predict", {"instances": [ROW], "more": 1}, False),
        ("/predict", [ROW], False),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW}]}, True),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": [ROW], "parameters": {"any": 1}}]},
            True,
        ),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW, "parameters": {"binary_data_size": 16}}]},
            False,
        ),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW, "parameters": {"any": [1]}}]},
            False,
        ),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW, "name": "x"}]}, False),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW, "datatype": "FP64"}]},
            False,
        ),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW, "shape": [1, 3]}]}, False),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW, "shape": [4]}]}, False),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW}] * 2}, False),
        ("/v2/models/flowers/infer", {"inputs": []}, False),
        ("/v2/models/flowers/infer", {"inputs": [{**NEXT, "data": ROW}], "id": 1}, False),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW}], "outputs": [{"name": "label"}]},
            True,
        ),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW}], "outputs": [{"name": "label"}] * 2},
            False,
        ),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW}], "outputs": [{"name": "output"}]},
            False,
        ),
        (
            "/v2/models/flowers/infer",
            {"inputs": [{**NEXT, "data": ROW}], "parameters": {"sequence_id": 1}},
            False,
        ),
        (
            "/v1/models/flowers:predict",
            {"instances": [ROW], "signature_name": "serving_default"},
            True,
        ),
        ("/v1/models/flowers:predict", {"inputs": [ROW]}, True),
        ("/v1/models/flowers:predict", {"inputs": [ROW], "instances": [ROW]}, False),
        ("/v1/models/flowers:predict", {"inputs": [dict(zip(NAMES, ROW, strict=True))]}, False),
        ("/v1/models/flowers:predict", {"inputs": [ROW], "signature_name": "other"}, False),
    ],
)
def test_schemas_and_service_agree(flower: Described, path: str, body: object, valid: bool) -> None:
    """What a schema takes, the service takes, and what one refuses, the other does."""
    schema = flower.document["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
    reply = flower.client.post(path, json=body)
    assert (valid, valid) == (not flower.faults(body, schema), reply.status_code == 200), reply.text
    if valid:
        stated = flower.document["paths"][path]["post"]["responses"]["200"]["content"][JSON][
            "schema"
        ]
        assert [] == flower.faults(value_of(reply), stated)


def test_odd_names_are_shown_where_they_can_be(flowers: StoredArtifact) -> None:
    """A name that CSV cannot carry leaves the other examples and the page whole."""
    predictor = copy.copy(Predictor(flowers.artifact))
    features = predictor.manifest.features
    odd = (dataclasses.replace(features[0], name=' <b>"a"</b>\n\t'), *features[1:])
    predictor.manifest = dataclasses.replace(predictor.manifest, features=odd)
    document = openapi.document(ServedModel(predictor, predictor.predict, 64), max_body_bytes=1)
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert [["rows", "records"], []] == [
        list(content[form].get("examples", {})) for form in (JSON, "text/csv")
    ]
    assert {' <b>"a"</b>\n\t', *NAMES[1:]} == set(
        document["components"]["schemas"]["Record"]["properties"]
    )


def test_features_and_classes(flower: Described) -> None:
    """Names with commas and letters of other alphabets, and what the training rows held, stand as they are."""
    components = flower.document["components"]["schemas"]
    assert NAMES == list(components["Record"]["properties"])
    assert re.fullmatch(
        r"integer; in the training rows 19\d\d to 20\d\d, median 200\d.",
        components["Record"]["properties"]["year"]["description"],
    )
    assert (4, 4) == (components["Row"]["minItems"], components["Row"]["maxItems"])
    assert {"type": "string", "enum": list(CLASSES)} == components["Class"]


def test_classes_of_other_types() -> None:
    """Classes are stated in their own JSON types, where 1, "1" and true are three."""
    manifest = Manifest.from_json((Path(__file__).parent / "data" / "manifest.json").read_bytes())
    stated = schemas(manifest, 64, ["1"])["Class"]
    assert {
        "type": ["boolean", "integer", "number", "string"],
        "enum": [1, 1.5, True, "1"],
    } == stated
    assert [int, float, bool, str] == [type(value) for value in stated["enum"]]


def test_document_is_made_once(flowers: StoredArtifact) -> None:
    """The examples are computed once for what is served, another version has its own, and no page changes it."""
    predictor, asked = Predictor(flowers.artifact), []

    def counted(version: int) -> ServedModel:
        other = copy.copy(predictor)
        other.manifest = dataclasses.replace(predictor.manifest, version=version)
        other.predict = lambda rows: asked.append(version) or predictor.predict(rows)  # type: ignore[method-assign,func-returns-value]
        return ServedModel(other, other.predict, 64)

    def described(served: ServedModel, previous: ServedModel | None = None) -> dict[str, Any]:
        return openapi.document(served, max_body_bytes=1, previous=previous)

    one, two = counted(1), counted(2)
    first = described(one)
    times, text = len(asked), json.dumps(first)
    assert times
    assert first is described(one)
    assert times == len(asked)
    assert ["2", "1"] == described(two, one)["components"]["parameters"]["version"]["schema"][
        "enum"
    ]
    assert ["2"] == described(two)["components"]["parameters"]["version"]["schema"]["enum"]
    assert text == json.dumps(first) == json.dumps(described(one))


def test_pages_leave_the_document_as_it_is(described: Described) -> None:
    """Neither the page nor the JSON of it changes the document that is kept."""
    described.client.get("/docs")
    assert described.document == json.loads(described.client.get("/openapi.json").data)


def test_previous_version(flowers: StoredArtifact) -> None:
    """The version before is named where it is asked and answers alike, and not where its features are others."""
    predictor = Predictor(flowers.artifact)

    def numbered(version: int, **changes: Any) -> ServedModel:
        other = copy.copy(predictor)
        other.manifest = dataclasses.replace(predictor.manifest, version=version, **changes)
        return ServedModel(other, other.predict, 64)

    def versions(previous: ServedModel) -> object:
        document = openapi.document(numbered(2), max_body_bytes=1, previous=previous)
        return document["components"]["parameters"]["version"]["schema"]["enum"]

    assert ["2", "1"] == versions(numbered(1))
    assert ["2"] == versions(numbered(1, features=predictor.manifest.features[:3]))
    assert ["2"] == versions(numbered(1, classes=(*predictor.manifest.classes[:2], 3)))


class Page(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_keep_to_their_policy(described: Described, path: str) -> None:
    """Style and script bear the nonce of the policy, nothing is written into elements, nothing comes from elsewhere."""
    reply = described.client.get(path, headers={"Accept": "text/html"})
    nonces = set(re.findall(r"'nonce-([^']+)'", reply.headers["Content-Security-Policy"]))
    elements = Page(reply.text).elements
    assert nonces == {
        attributes.get("nonce") for tag, attributes in elements if tag in ("style", "script")
    }
    for tag, attributes in elements:
        assert tag not in ("img", "link", "iframe", "form", "base")
        assert not [
            name for name in attributes if name in ("style", "src") or name.startswith("on")
        ]
        assert not (attributes.get("href") or "").startswith(("http", "//"))
    assert nonces != set(
        re.findall(
            r"'nonce-([^']+)'",
            described.client.get(path, headers={"Accept": "text/html"}).headers[
                "Content-Security-Policy"
            ],
        )
    )


def test_docs_page(described: Described) -> None:
    """Every operation and schema has a heading that the page's links lead to, and every example can be sent."""
    page = described.client.get("/docs").text
    elements = Page(page).elements
    names = {attributes["id"] for _, attributes in elements if attributes.get("id")}
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert {operation["operationId"] for _, _, operation in described.operations()} <= names
    assert {f"schema-{name}" for name in described.document["components"]["schemas"]} <= names
    assert {str(link) for link in links if str(link).startswith("#")} <= {
        f"#{name}" for name in names
    }
    sent = {attributes["data-path"] for tag, attributes in elements if tag == "button"}
    assert {f".{path}" for path, _, _ in described.operations() if "/versions/" not in path} <= sent
