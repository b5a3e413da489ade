"""service.dialects.native: what is read, and the reply's shape by task and by Accept."""

import csv
import io
import json

import numpy as np
import pytest

from service.errors import Refused
from service.protocols import native
from service.protocols.messages import BYTES, CSV, JSON, Reply, Request
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows
from tests.stored import StoredArtifact
from tests.tables import CLASSES


def served(made: StoredArtifact) -> ServedModel:
    """Return an artifact as the dialects see it."""
    predictor = Predictor(made.artifact)
    return ServedModel(predictor, predictor.predict, 1000)


def ask(made: StoredArtifact, rows: Rows, accept: str = "") -> Reply:
    """Send rows as JSON."""
    body = json.dumps({"instances": rows.astype(np.float64).tolist()}).encode()
    return native.answer(Request(body, JSON, accept), served(made))


def test_reply_of_no_rows(flowers: StoredArtifact) -> None:
    """No rows have no predictions, and the reply keeps its shape."""
    predictor = Predictor(flowers.artifact)
    reply = native.document(predictor.predict(np.zeros((0, 4), np.float32)), predictor.manifest)
    assert [] == reply["predictions"]
    assert (0, 3) == reply["probabilities"].shape


def test_feature_order_is_the_manifest_s(flowers: StoredArtifact) -> None:
    """Records are laid out in the order of the network's columns, whatever theirs is."""
    names = served(flowers).features
    record = {name: index for index, name in reversed(list(enumerate(names)))}
    body = json.dumps({"instances": [record]}).encode()
    assert [[0, 1, 2, 3]] == native.rows(Request(body, JSON), served(flowers))[0].tolist()


@pytest.mark.parametrize("task", ["flowers", "houses"])
def test_every_form_of_reply_has_the_same_numbers(
    task: str, request: pytest.FixtureRequest
) -> None:
    """JSON, CSV and bytes carry the predictor's float32 bits."""
    made: StoredArtifact = request.getfixturevalue(task)
    rows, manifest = made.rows[:20], Predictor(made.artifact).manifest
    outputs = Predictor(made.artifact).predict(rows)
    classifies = task == "flowers"
    expected = outputs["probabilities" if classifies else "output"]
    raw = ask(made, rows, BYTES)
    assert (BYTES, expected.tobytes()) == (raw.content_type, raw.body)
    document = json.loads(ask(made, rows).body)
    found = np.array(document["probabilities" if classifies else "predictions"], np.float32)
    assert np.array_equal(expected, found)
    reply = ask(made, rows, CSV)
    header, *lines = csv.reader(io.StringIO(reply.body.decode()))
    assert "text/csv; charset=utf-8" == reply.content_type
    assert np.array_equal(expected, np.array([line[classifies:] for line in lines], np.float32))
    if classifies:
        assert ["prediction", *(f"probability_{name}" for name in CLASSES)] == header
        assert document["predictions"] == [line[0] for line in lines]
    else:
        assert [f"prediction_{target}" for target in manifest.targets] == header


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", JSON),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/*", "text/csv; charset=utf-8"),
        ("application/*", JSON),
        ("application/json;q=0.5, text/csv;q=0.9", "text/csv; charset=utf-8"),
        ("text/html, application/octet-stream", BYTES),
        ("application/json;q=0, */*", "text/csv; charset=utf-8"),
        ("TEXT/CSV", "text/csv; charset=utf-8"),
        ("application/problem+json, application/json", JSON),
    ],
)
def test_accept(flowers: StoredArtifact, accept: str, expected: str) -> None:
    """The form that the caller ranks highest, by RFC 9110's rules, JSON among equals."""
    assert expected == ask(flowers, flowers.rows[:1], accept).content_type


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
def test_not_acceptable(flowers: StoredArtifact, accept: str) -> None:
    """A caller who takes none of the forms is told which there are."""
    with pytest.raises(
        Refused, match=r"expected one of application/json, text/csv, application/octet-stream"
    ) as caught:
        ask(flowers, flowers.rows[:1], accept)
    assert 406 == caught.value.status
