"""TODO: service.host.sockets."""

import contextlib
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

from service.settings import SettingsError

if TYPE_CHECKING:
    pass


MAX_CONNECTIONS = 1024
"""Of one worker: open at a time, if it has not more threads than that; as many again may wait to be accepted."""
TCP_KEEPALIVE_SECONDS = 60
"""After so long without a sign of life from the other end, an upload that it left unfinished is given up."""
IS_LINUX = sys.platform == "linux"
# Connections have these from the socket that accepts them.
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


def listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """Listen with a socket for each worker, over which Linux spreads the connections; they wait there for the workers.

    Raises:
        SettingsError: the host is not known here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except socket.gaierror as error:
        raise SettingsError(f"{host}: {error.strerror}") from None
    with contextlib.ExitStack() as opened:

        def bound(*options: tuple[int, int, int]) -> socket.socket:
            made = opened.enter_context(socket.socket(family, kind, protocol))
            for option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options):
                made.setsockopt(*option)
            made.bind(address)
            return made

        try:
            bound().close()  # the sockets below would share the port with another server's
            if IS_LINUX:
                sockets = [
                    bound((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1), *SOCKET_OPTIONS)
                    for _ in range(workers)
                ]
            else:  # nothing would spread them: the workers accept from one socket
                sockets = [bound(*SOCKET_OPTIONS)] * workers
            for listener in sockets:
                listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            what = (
                "the port is taken"
                if error.errno == errno.EADDRINUSE
                else os.strerror(error.errno or 0)
            )
            raise SettingsError(f"{host}:{port}: {what}; choose another with --port") from None
        opened.pop_all()
    return sockets
