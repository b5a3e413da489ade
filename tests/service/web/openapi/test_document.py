"""Tests of service.web.openapi: the document describes the requests and replies of the service."""

import copy
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from service.artifact.manifest import EXAMPLE, Manifest
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.openapi.document import openapi_document
from service.web.openapi.schemas import MIN_OVERFLOW, document_schemas
from service.web.security import PUBLIC_PATHS
from tests.stored import DATA, FLOWERS, StoredArtifact
from tests.tables import CLASSES

JSON = "application/json"
MAX_ROWS = 64
TOKEN = "token"  # noqa: S105
ROW = [1.0, 2.0, 3.0, 2001.0]
NAMES = ["petal, length", "sepal width", "größe", "year"]
RECORD = dict(zip(NAMES, ROW, strict=True))
INPUT = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
EXAMPLES = json.loads((FLOWERS.artifact / EXAMPLE).read_bytes())["instances"]
BODY = json.dumps({"instances": EXAMPLES[:1]}, separators=(",", ":")).encode()
CHUNKED = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}


@dataclasses.dataclass(frozen=True)
class Description:
    """A client of an application, and the application's OpenAPI document."""

    client: FlaskClient
    document: dict[str, Any]

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield the path, method and description of each operation, with a version in the path."""
        version = self.document["components"]["parameters"]["version"]["schema"]["enum"][0]
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield path.replace("{version}", version), method, operation

    def violations(self, instance: object, schema: dict[str, Any]) -> list[str]:
        """Validate a value against a schema of the document; return all error messages."""
        validator = Draft202012Validator({**schema, "components": self.document["components"]})
        return [error.message for error in validator.iter_errors(instance)]


def describe(stored: StoredArtifact, **options: Any) -> Description:
    """Create an application and read the document that it serves."""
    settings = ServiceSettings(
        artifact=stored.artifact, max_body_bytes=100_000, max_rows=MAX_ROWS, **options
    )
    client = create_app(settings).test_client()
    reply = client.get("/openapi.json", headers={"X-API-Key": TOKEN})
    return Description(client, json.loads(reply.data))


def value_of(reply: TestResponse) -> Any:
    """Return the body of a reply, parsed if it is JSON."""
    return json.loads(reply.data) if reply.mimetype == JSON else reply.text


@pytest.fixture(scope="module", params=["flowers", "houses"])
def description(request: pytest.FixtureRequest) -> Description:
    """The descriptions of the classifier and of the regressor."""
    return describe(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def classifier(flowers: StoredArtifact) -> Description:
    """The description of the classifier."""
    return describe(flowers)


@pytest.fixture(scope="module")
def locked(flowers: StoredArtifact, tmp_path_factory: pytest.TempPathFactory) -> Description:
    """The description of the classifier when clients need a token."""
    path = tmp_path_factory.mktemp("locked") / "tokens"
    path.write_text(TOKEN)
    return describe(flowers, token_file=path)


def test_document_is_valid(description: Description) -> None:
    """The document follows OpenAPI's schema and describes exactly the routes of Flask."""
    meta = json.loads((DATA / "openapi-3.1.json").read_bytes())
    errors = Draft202012Validator(meta).iter_errors(description.document)
    assert [] == [error.message for error in errors]
    for schema in description.document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in description.operations()]
    assert len(set(names)) == len(names)
    model = description.document["info"]["title"]
    routes = {
        (rule.rule.replace("<model>", model).replace("<version>", "{version}"), method.lower())
        for rule in description.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    paths = description.document["paths"]
    assert routes == {(path, method) for path, item in paths.items() for method in item}


def test_examples_match_replies(description: Description) -> None:
    """Each example request is valid; the service's reply is valid and equals the example reply."""
    count = 0
    for path, _, operation in description.operations():
        replies = operation["responses"]["200"]["content"]
        for media_type, content in operation.get("requestBody", {"content": {}})["content"].items():
            for name, example in content.get("examples", {}).items():
                assert [] == description.violations(example["value"], content["schema"])
                accept = next(key for key in replies if name in replies[key].get("examples", ()))
                body = json.dumps(example["value"]) if media_type == JSON else example["value"]
                reply = description.client.post(
                    path, data=body, content_type=media_type, headers={"Accept": accept}
                )
                assert (200, accept) == (reply.status_code, reply.mimetype)
                assert replies[accept]["examples"][name]["value"] == value_of(reply)
                assert [] == description.violations(value_of(reply), replies[accept]["schema"])
                count += 1
    assert 3 + 2 * 2 + 2 * 2 == count


def test_get_replies_match(description: Description) -> None:
    """Each GET operation replies in each described media type according to its schema."""
    for path, method, operation in description.operations():
        if method == "get":
            for media_type, content in operation["responses"]["200"]["content"].items():
                reply = description.client.get(path, headers={"Accept": media_type})
                assert (200, media_type) == (reply.status_code, reply.mimetype), path
                assert [] == description.violations(value_of(reply), content["schema"]), path


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (400, {"data": BODY[:-2]}),
        (401, {"headers": {"X-API-Key": "no"}}),
        (406, {"headers": {"X-API-Key": TOKEN, "Accept": "image/png"}}),
        (411, {"content_type": "text/csv", "environ_overrides": CHUNKED}),
        (413, {"data": bytes(100_001)}),
        (415, {"content_type": "text/plain"}),
        (422, {"data": b'{"instances":[[1,2,3]]}'}),
    ],
)
def test_errors_match(locked: Description, status: int, change: dict[str, Any]) -> None:
    """Each error has the described members and headers, and the text of its example."""
    request: dict[str, Any] = {"content_type": JSON, "headers": {"X-API-Key": TOKEN}, "data": BODY}
    reply = locked.client.post("/predict", **request | change)
    response = locked.document["components"]["responses"][str(status)]
    problem = value_of(reply)
    assert status == reply.status_code
    assert response["content"][JSON]["example"] | {"request_id": problem["request_id"]} == problem
    assert [] == locked.violations(problem, response["content"][JSON]["schema"])
    assert set(response["headers"]) <= set(reply.headers.keys())


def test_security(locked: Description, classifier: Description) -> None:
    """With a token file all paths except the public ones need a token; without it, none does."""
    assert [{"bearer": []}, {"key": []}] == locked.document["security"]
    for path, method, operation in locked.operations():
        is_public = path in PUBLIC_PATHS
        reply = locked.client.open(path, method=method.upper())
        assert is_public == (reply.status_code == 200) == (operation.get("security") == [])
        assert is_public == ("401" not in operation["responses"])
    assert "security" not in classifier.document
    assert not any("401" in operation["responses"] for _, _, operation in classifier.operations())


PATHS = {"v0": "/predict", "v2": "/v2/models/flowers/infer", "v1": "/v1/models/flowers:predict"}
ROWS: list[tuple[object, bool]] = [
    ([], True),
    ([RECORD] * 2, True),
    ([ROW] * MAX_ROWS, True),
    ([[*ROW[1:], 3.4028235e38]], True),
    *(([[*ROW[1:], value]], False) for value in (MIN_OVERFLOW, -MIN_OVERFLOW, True)),
    ([ROW] * (MAX_ROWS + 1), False),
    ([ROW[1:]], False),
    ([{**RECORD, "more": 1}], False),
    ([{"year": 2001}], False),
    ([ROW, RECORD], False),
]
TENSORS: list[tuple[dict[str, Any], bool]] = [
    ({"data": [ROW], "parameters": {"any": 1}}, True),
    ({"parameters": {"binary_data_size": 16}}, False),
    ({"parameters": {"any": [1]}}, False),
    ({"datatype": "FP64"}, True),
    ({"datatype": "INT16", "parameters": None}, True),
    ({"datatype": "BOOL"}, False),
    ({"datatype": None}, False),
    ({"parameters": {"binary_data_size": None, "sequence_id": None}}, True),
]
BODIES = [
    *(("v0", {"instances": rows}, valid) for rows, valid in ROWS),
    ("v0", {"instances": [ROW], "more": 1}, False),
    ("v0", [ROW], False),
    *(("v2", {"inputs": [INPUT | change]}, valid) for change, valid in TENSORS),
    ("v2", {"inputs": [INPUT] * 2}, False),
    ("v2", {"inputs": [INPUT], "id": 1}, False),
    ("v2", {"inputs": [INPUT], "outputs": [{"name": "label"}]}, True),
    ("v2", {"inputs": [INPUT], "outputs": [{"name": "label"}] * 2}, False),
    ("v2", {"inputs": [INPUT], **dict.fromkeys(("id", "model_name", "outputs"))}, True),
    ("v2", {"inputs": [INPUT], "parameters": {"binary_data_output": None}}, True),
    ("v2", {"inputs": [INPUT], "parameters": {"sequence_id": 1}}, False),
    ("v1", {"instances": [ROW], "signature_name": "serving_default"}, True),
    ("v1", {"inputs": [ROW]}, True),
    ("v1", {"inputs": [ROW], "signature_name": ""}, True),
    ("v1", {"inputs": [ROW], "signature_name": None}, True),
    ("v1", {"inputs": [ROW], "instances": [ROW]}, False),
    ("v1", {"inputs": [RECORD]}, False),
    ("v1", {"inputs": [ROW], "signature_name": "other"}, False),
]


@pytest.mark.parametrize(("protocol", "body", "valid"), BODIES)
def test_schemas_agree_with_the_service(
    classifier: Description, protocol: str, body: object, valid: bool
) -> None:
    """The schema and the service accept the same bodies."""
    path = PATHS[protocol]
    content = classifier.document["paths"][path]["post"]["requestBody"]["content"]
    violations = classifier.violations(body, content[JSON]["schema"])
    reply = classifier.client.post(path, json=body)
    assert (valid, valid) == (not violations, reply.status_code == 200), reply.text


def versioned(stored: StoredArtifact, version: int, **changes: Any) -> ServedModel:
    """Return the served model of a stored artifact with another version and manifest."""
    predictor = copy.copy(Predictor(stored.artifact))
    predictor.manifest = dataclasses.replace(predictor.manifest, version=version, **changes)
    return ServedModel(predictor, predictor.predict, MAX_ROWS)


def test_names_that_csv_cannot_carry(flowers: StoredArtifact) -> None:
    """If CSV cannot express a feature name, only the example in CSV is omitted."""
    name = ' <b>"a"</b>\n\t'
    features = Predictor(flowers.artifact).manifest.features
    renamed = (dataclasses.replace(features[0], name=name), *features[1:])
    document = openapi_document(versioned(flowers, 1, features=renamed), max_body_bytes=1)
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert ["rows", "records"] == list(content[JSON]["examples"])
    assert "examples" not in content["text/csv"]
    assert [name, *NAMES[1:]] == list(document["components"]["schemas"]["Record"]["properties"])


def test_features_and_classes(classifier: Description) -> None:
    """Schemas contain the features, the ranges of the training rows, and the classes."""
    schemas = classifier.document["components"]["schemas"]
    assert NAMES == list(schemas["Record"]["properties"])
    assert re.fullmatch(
        r"integer; in the training rows 19\d\d to 20\d\d, median 200\d.",
        schemas["Record"]["properties"]["year"]["description"],
    )
    assert {"type": "string", "enum": list(CLASSES)} == schemas["Class"]
    manifest = Manifest.from_json((DATA / "manifest.json").read_bytes())
    schema = document_schemas(manifest, MAX_ROWS, ["1"])["Class"]
    assert ["boolean", "integer", "number", "string"] == schema["type"]
    assert ["1", "1.5", "True", "'1'"] == [repr(value) for value in schema["enum"]]


def test_previous_version(flowers: StoredArtifact) -> None:
    """The previous version is listed if its features and classes are the same."""
    current = versioned(flowers, 2)
    manifest = current.predictor.manifest
    for previous, versions in (
        (versioned(flowers, 1), ["2", "1"]),
        (versioned(flowers, 1, features=manifest.features[:3]), ["2"]),
        (versioned(flowers, 1, classes=(*manifest.classes[:2], 3)), ["2"]),
    ):
        document = openapi_document(current, max_body_bytes=1, previous=previous)
        assert versions == document["components"]["parameters"]["version"]["schema"]["enum"]
