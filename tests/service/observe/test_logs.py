"""Tests of service.observe.logs: formats, tracebacks, and the lines of requests."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
from flask import Flask

from service.observe import logs

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def _restored_loggers() -> Iterator[None]:
    """Restore the configuration of the loggers after the test."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], (root.level, logs.access.level)
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, logs.access), levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("_restored_loggers")
@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [("auto", False, True), ("auto", True, False), ("json", True, True), ("text", False, False)],
)
def test_format_of_the_log(
    form: Literal["auto", "json", "text"],
    is_terminal: bool,
    is_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The setting or the terminal selects the format; the access log can be switched off."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    logs.configure(form, access_log=False)
    logging.getLogger("service.x").info("hello", extra={"request_id": "r"})
    logs.access.info("GET /")
    (line,) = capsys.readouterr().err.splitlines()
    if is_json:
        document = json.loads(line)
        assert "T" in document.pop("time")
        expected = {"level": "INFO", "logger": "service.x", "message": "hello", "request_id": "r"}
        assert expected == document
    else:
        assert "INFO hello [r]" == line
    logs.configure(form, access_log=True)
    logs.access.info("GET /")
    assert "GET /" in capsys.readouterr().err


@pytest.mark.parametrize("formatter", [logs.JSONLines(), logs.TextLines()])
def test_traceback_is_logged(formatter: logging.Formatter) -> None:
    """In JSON, the traceback is in the same line, with newlines escaped; in text, it follows."""
    try:
        raise RuntimeError("the reason")
    except RuntimeError:
        error = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, 'a "b"\nc', (), error)
    line = formatter.format(record)
    assert "RuntimeError: the reason" in line
    if isinstance(formatter, logs.JSONLines):
        assert "\n" not in line
        assert 'a "b"\nc' == json.loads(line)["message"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/readyz")])
def test_request_is_logged(
    method: str, path: str, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request is one line with IDs, status and time; a path cannot forge a line."""
    client = app.test_client()
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "X-Request-ID": "mine"}
    caplog.set_level(logging.WARNING, "service.access")
    client.open(path, method=method)
    assert [] == [record for record in caplog.records if record.name == "service.access"]
    caplog.set_level(logging.INFO, "service.access")
    client.open(path, method=method, data=b'{"instances": []}', headers=headers)
    (record,) = [record for record in caplog.records if record.name == "service.access"]
    expected = {"request_id": "mine", "trace_id": TRACE_ID, "method": method, "path": path}
    assert (expected | {"status": 200}).items() <= vars(record).items()
    assert 0 < vars(record)["seconds"] < 60
    client.get("/a%0AINFO forged")
    assert "\n" not in caplog.records[-1].getMessage()
