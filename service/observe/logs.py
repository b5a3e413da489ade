"""Log lines: one JSON document each for a machine, a readable line for a person at a terminal."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

FIELDS = ("request_id", "trace_id", "method", "path", "status", "seconds", "remote")
"""What a record may carry beside its message."""
access = logging.getLogger("service.access")


def configure(form: Literal["auto", "json", "text"], *, access_log: bool) -> None:
    """Send this process' log to stderr.

    Args:
        form: auto is text where stderr is a terminal, JSON elsewhere.
        access_log: whether there is a line per request.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if text else JSONLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    access.setLevel(logging.INFO if access_log else logging.WARNING)


class JSONLines(logging.Formatter):
    """{"time", "level", "logger", "message"}, what is known of the request, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {
            name: getattr(record, name)
            for name in FIELDS
            if getattr(record, name, None) is not None
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


class TextLines(logging.Formatter):
    """LEVEL message, and the request's id where there is one."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a newline in it comes from a traceback of ours, never from a request."""
        line = super().format(record)
        request_id = getattr(record, "request_id", None)
        return f"{line} [{request_id}]" if request_id and not record.exc_info else line
