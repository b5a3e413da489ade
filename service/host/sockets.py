"""The sockets on which the workers accept connections."""

import contextlib
import errno
import os
import socket
import sys

from service.settings import SettingsError

MAX_CONNECTIONS = 1024
"""Maximum number of open connections per worker, and of connections in its listen backlog.

A worker with more threads than this may have one open connection per thread."""
TCP_KEEPALIVE_SECONDS = 60
"""Seconds after which a connection is closed if the peer does not answer keep-alive probes."""
IS_LINUX = sys.platform == "linux"
# Connections inherit these options from the socket that accepts them.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
if sys.platform == "linux":
    SOCKET_OPTIONS += [
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPALIVE_SECONDS // 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPALIVE_SECONDS // 6),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ]


def listen(host: str, port: int, workers: int, send_seconds: float = 30) -> list[socket.socket]:
    """Return one listening socket per worker, which queues connections until they are accepted.

    On Linux the kernel spreads the connections over the sockets, and it closes a connection whose
    client has accepted none of the sent data for `send_seconds`: TCP_USER_TIMEOUT also limits how
    long a receive window may stay closed. Raise SettingsError if the host is unknown or the port is
    in use.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise SettingsError(f"{host}: {error.strerror}") from None
    family, kind, protocol, _, address = addresses[0]
    with contextlib.ExitStack() as stack:

        def bind(*options: tuple[int, int, int]) -> socket.socket:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            for option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options):
                listener.setsockopt(*option)
            listener.bind(address)
            return listener

        try:
            bind().close()  # SO_REUSEPORT below would silently share the port with another server
            if IS_LINUX:
                reuse_port = (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                milliseconds = max(1, round(send_seconds * 1000))
                timeout = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
                options = (reuse_port, timeout, *SOCKET_OPTIONS)
                sockets = [bind(*options) for _ in range(workers)]
            else:  # other kernels do not spread connections, so the workers share one socket
                sockets = [bind(*SOCKET_OPTIONS)] * workers
            for listener in sockets:
                listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            reason = "the port is taken" if in_use else os.strerror(error.errno or 0)
            remedy = "choose another with --port or TWOLAYERNET_PORT"
            raise SettingsError(f"{host}:{port}: {reason}; {remedy}") from None
        stack.pop_all()
    return sockets
