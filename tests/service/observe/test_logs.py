"""service.logs: a line per event, for machines and for people."""

import json
import logging
import sys

import pytest

from service.observe import logs
from service.settings import ServiceSettings
from service.web.app import create_app
from tests.stored import StoredArtifact

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def record(message: str, **extra: object) -> logging.LogRecord:
    """Return a record as a logger makes it."""
    made = logging.LogRecord("service.x", logging.INFO, __file__, 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_json_lines() -> None:
    """One JSON document a line, whatever is in the message."""
    line = logs.JSONLines().format(record('a "b"\nc', request_id="r", status=200))
    assert "\n" not in line
    document = json.loads(line)
    assert {"time", "level", "logger", "message", "request_id", "status"} == set(document)
    assert ('a "b"\nc', "INFO", 200) == (document["message"], document["level"], document["status"])


def test_json_lines_carry_a_traceback() -> None:
    """A failure's traceback is in the document."""
    try:
        raise RuntimeError("why")
    except RuntimeError:
        failed = record("failed")
        failed.exc_info = sys.exc_info()
    assert "RuntimeError: why" in json.loads(logs.JSONLines().format(failed))["traceback"]


def test_text_lines() -> None:
    """Level, message, and the request's id."""
    assert "INFO hello [r]" == logs.TextLines().format(record("hello", request_id="r"))
    assert "INFO hello" == logs.TextLines().format(record("hello"))


@pytest.mark.parametrize("path", ["/predict", "/readyz"])
def test_access_log(flowers: StoredArtifact, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A line per request with its id, its trace, its status and its time; the path cannot forge another line."""
    caplog.set_level(logging.INFO, "service.access")
    client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    caplog.clear()
    traced = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "mine"}
    method = "POST" if path == "/predict" else "GET"
    client.open(path, method=method, data=b'{"instances": []}', headers=traced)
    (line,) = [made for made in caplog.records if made.name == "service.access"]
    found = {name: getattr(line, name) for name in logs.FIELDS if name not in ("seconds", "remote")}
    assert {
        "request_id": "mine",
        "trace_id": TRACE,
        "method": method,
        "path": path,
        "status": 200,
    } == found
    client.get("/a%0AINFO forged")
    assert "\n" not in caplog.records[-1].getMessage()


def test_no_access_log_unless_asked_for(
    flowers: StoredArtifact, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it is off, a request writes nothing."""
    caplog.set_level(logging.WARNING, "service.access")
    client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    caplog.clear()
    client.get("/readyz")
    assert [] == caplog.records
