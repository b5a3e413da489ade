"""Formats of the log: JSON documents for machines, and text for terminals."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

FIELDS = ("request_id", "trace_id", "method", "path", "status", "seconds", "remote")
"""Attributes of a log record that a JSON line includes if they are set."""
access = logging.getLogger("service.access")
"""Logger of one line per request."""


def configure(form: Literal["auto", "json", "text"], *, access_log: bool) -> None:
    """Send the log to stderr; "auto" selects text if stderr is a terminal, and JSON otherwise."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if text else JSONLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    access.setLevel(logging.INFO if access_log else logging.WARNING)


class JSONLines(logging.Formatter):
    """Formats a record as JSON: time, level, logger, message, FIELDS, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        values = {name: getattr(record, name, None) for name in FIELDS}
        document |= {name: value for name, value in values.items() if value is not None}
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


class TextLines(logging.Formatter):
    """Formats a record as its level and message, and its request ID if it has one."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, followed by the traceback if the record has one."""
        line = super().format(record)
        request_id = getattr(record, "request_id", None)
        return f"{line} [{request_id}]" if request_id and not record.exc_info else line
