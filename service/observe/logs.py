"""Log lines: JSON documents for machines, and readable text for people at a terminal."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

FIELDS = ("request_id", "trace_id", "method", "path", "status", "seconds", "remote")
"""Optional attributes of a log record that a JSON line includes."""
access = logging.getLogger("service.access")
"""Logger of the lines per request."""


def configure(form: Literal["auto", "json", "text"], *, access_log: bool) -> None:
    """Send the log to stderr; auto means text if stderr is a terminal, and JSON otherwise."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if text else JSONLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    access.setLevel(logging.INFO if access_log else logging.WARNING)


class JSONLines(logging.Formatter):
    """A JSON document per record: time, level, logger, message, FIELDS, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                document[name] = value
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


class TextLines(logging.Formatter):
    """Level and message, followed by the request ID if the record has one."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; only the tracebacks of this service add further lines."""
        line = super().format(record)
        request_id = getattr(record, "request_id", None)
        return f"{line} [{request_id}]" if request_id and not record.exc_info else line
