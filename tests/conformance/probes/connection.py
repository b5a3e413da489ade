"""HTTP/1.1 over a bare socket: http.client would refuse to send half of what is asked here."""

import contextlib
import re
import socket
from collections.abc import Sequence

from tests.conformance.probes.replies import Reply

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\x20-\x7e]*)?")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
NO_BODY = (204, 304)
CHUNK = 1 << 16


class Broken(Exception):
    """No reply, or one that is not HTTP; the message says which. A hang is one of them."""


class Connection:
    """A connection to a server, kept alive from one request to the next, and made anew where it has ended."""

    def __init__(self, port: int, seconds: float) -> None:
        """Take the port on 127.0.0.1, and how long a reply may take."""
        self.port, self.seconds = port, seconds
        self.kept = False  # a reply has come over it, and did not say that it would be the last
        self.socket: socket.socket | None = None
        self.buffer = b""

    def exchange(
        self, pieces: Sequence[bytes], *, head: bool = False, half_close: bool = False
    ) -> Reply:
        """Send a request and return the reply; a status of 0 says that the connection was closed without one.

        Args:
            pieces: of the request, each given to the system by itself.
            head: the request is HEAD, whose reply has no body whatever its headers say.
            half_close: send no more after it, and say so.

        Raises:
            Broken: the reply did not come in time, or is not HTTP.
        """
        try:
            if self.socket is None:
                self.socket = socket.create_connection(
                    ("127.0.0.1", self.port), timeout=self.seconds
                )
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.buffer, self.kept = b"", False
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # refused before all of it was sent
                for piece in pieces:
                    self.socket.sendall(piece)
                if half_close:
                    self.socket.shutdown(socket.SHUT_WR)
            reply = self._read(head)
        except TimeoutError:
            self.close()
            raise Broken(f"hangs: no whole reply within {self.seconds:g} s") from None
        except OSError as error:
            self.close()
            raise Broken(f"{error.strerror or error}") from None
        except Broken:
            self.close()
            raise
        if reply.closed or half_close:
            self.close()
        else:
            self.kept = True
        return reply

    def close(self) -> None:
        """End the connection; the next request makes another."""
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
                raise Broken(f"not a status line: {line[:100]!r}")
            status = int(match[1])
        fields = [FIELD.fullmatch(text.decode("latin-1")) for text in lines]
        if not all(fields):
            raise Broken(f"not a header: {top[:500]!r}")
        reply = Reply(status, tuple((found[1].lower(), found[2]) for found in fields if found), b"")
        closing = "close" in (reply.header("connection") or "").lower() or line.startswith(
            b"HTTP/1.0"
        )
        if head or status in NO_BODY:
            body = b""
        elif "chunked" in (reply.header("transfer-encoding") or ""):
            body = self._chunks()
        elif (length := reply.header("content-length")) is not None:
            body = self._exactly(int(length))
        else:
            raise Broken(f"a reply of unknown length: {top[:500]!r}")
        if self.buffer:
            raise Broken(f"{len(self.buffer)} bytes follow the reply: {self.buffer[:200]!r}")
        return reply._replace(body=body, closed=closing)

    def _until(self, mark: bytes) -> bytes:
        """Return what stands before the mark; nothing at all where the connection ends before the first byte."""
        while (end := self.buffer.find(mark)) < 0:
            if not self._more():
                if self.buffer:
                    raise Broken(f"the reply is cut short: {self.buffer[:200]!r}")
                return b""
        found, self.buffer = self.buffer[:end], self.buffer[end + len(mark) :]
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            if not self._more():
                raise Broken(
                    f"the reply is cut short: expected {length} bytes, found {len(self.buffer)}"
                )
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            parts.append(self._exactly(size))
            self._exactly(2)
        self._until(b"\r\n")
        return b"".join(parts)

    def _more(self) -> bool:
        assert self.socket is not None
        part = self.socket.recv(CHUNK)
        self.buffer += part
        return bool(part)
