"""HTTP/1.1 over a plain socket, because http.client refuses to send many of the requests here."""

import contextlib
import re
import socket
from collections.abc import Sequence

from tests.conformance.outcomes import Reply

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\x20-\x7e]*)?")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
BODYLESS_STATUSES = (204, 304)
READ_BYTES = 1 << 16


class BrokenReplyError(Exception):
    """The reply is missing, late, incomplete or not HTTP."""


class Connection:
    """A persistent connection to 127.0.0.1, which is reopened for the next request if it ended."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self.port, self.timeout_seconds = port, timeout_seconds
        # True once a reply has arrived that did not announce the end of the connection.
        self.kept = False
        self.socket: socket.socket | None = None
        self.buffer = b""

    def exchange(
        self, pieces: Sequence[bytes], *, head: bool = False, half_close: bool = False
    ) -> Reply:
        """Send a request and return the reply; its status is 0 if the server closed silently.

        `head` marks a HEAD request, whose reply has no body. `half_close` shuts down the sending
        side after the request.

        Raises:
            BrokenReplyError: the reply did not arrive in time, or it is not HTTP.
        """
        try:
            if self.socket is None:
                address = ("127.0.0.1", self.port)
                self.socket = socket.create_connection(address, self.timeout_seconds)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.buffer, self.kept = b"", False
            # The server may reject a request before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in pieces:
                    self.socket.sendall(piece)
                if half_close:
                    self.socket.shutdown(socket.SHUT_WR)
            reply = self._read(head)
        except (OSError, BrokenReplyError) as error:
            self.close()
            hang = f"hangs: no complete reply within {self.timeout_seconds:g} s"
            message = hang if isinstance(error, TimeoutError) else str(error)
            raise BrokenReplyError(message) from None
        if reply.closed or half_close:
            self.close()
        else:
            self.kept = True
        return reply

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _read(self, head: bool) -> Reply:
        status = 100
        while status < 200:
            if not (top := self._until(b"\r\n\r\n")):
                return Reply(0, (), b"", closed=True)
            line, *lines = top.split(b"\r\n")
            if not (match := STATUS_LINE.fullmatch(line)):
                raise BrokenReplyError(f"not a status line: {line[:100]!r}")
            status = int(match[1])
        fields = [FIELD.fullmatch(text.decode("latin-1")) for text in lines]
        if not all(fields):
            raise BrokenReplyError(f"not a header: {top[:500]!r}")
        headers = tuple((field[1].lower(), field[2]) for field in fields if field)
        reply = Reply(status, headers, b"")
        closing = "close" in (reply.header("connection") or "").lower()
        if head or status in BODYLESS_STATUSES:
            body = b""
        elif "chunked" in (reply.header("transfer-encoding") or ""):
            body = self._chunks()
        elif (length := reply.header("content-length")) is not None:
            body = self._exactly(int(length))
        else:
            raise BrokenReplyError(f"a reply of unknown length: {top[:500]!r}")
        if self.buffer:
            rest = self.buffer
            raise BrokenReplyError(f"{len(rest)} bytes follow the reply: {rest[:200]!r}")
        return reply._replace(body=body, closed=closing or line.startswith(b"HTTP/1.0"))

    def _until(self, delimiter: bytes) -> bytes:
        """Return the bytes before a delimiter; empty if the connection ends before any byte."""
        while (end := self.buffer.find(delimiter)) < 0:
            if not self._receive():
                if self.buffer:
                    raise BrokenReplyError(f"the reply is cut short: {self.buffer[:200]!r}")
                return b""
        part, self.buffer = self.buffer[:end], self.buffer[end + len(delimiter) :]
        return part

    def _exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            if not self._receive():
                counts = f"expected {length} bytes, found {len(self.buffer)}"
                raise BrokenReplyError(f"the reply is cut short: {counts}")
        part, self.buffer = self.buffer[:length], self.buffer[length:]
        return part

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            parts.append(self._exactly(size))
            self._exactly(2)
        self._until(b"\r\n")
        return b"".join(parts)

    def _receive(self) -> bool:
        assert self.socket is not None
        part = self.socket.recv(READ_BYTES)
        self.buffer += part
        return bool(part)
