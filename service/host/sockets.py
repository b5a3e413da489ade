"""The sockets on which the workers accept connections."""

import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Collection, Sequence

from service.settings import SettingsError

MAX_CONNECTIONS = 1024
"""Maximum number of open connections per worker, and of connections in its listen backlog.

A worker with more threads than this may have one open connection per thread."""
TCP_KEEPALIVE_SECONDS = 60
"""Seconds after which a connection is closed if the peer does not answer keep-alive probes."""
IS_LINUX = sys.platform == "linux"
SO_ATTACH_REUSEPORT_CBPF = 51
"""Socket option from <asm-generic/socket.h>; Python has no name for it."""
BPF_LOAD, BPF_MODULO, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x94, 0x15, 0x06
"""Codes of the classic BPF instructions in <linux/filter.h>."""
BPF_RANDOM_NUMBER = 0xFFFFF000 + 56
"""Address from which BPF_LOAD reads a random number (SKF_AD_OFF + SKF_AD_RANDOM)."""
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


def assign_connections(listeners: Sequence[socket.socket], excluded: Collection[int]) -> None:
    """Have the kernel assign new connections to all listeners except the excluded ones.

    If every listener is excluded, new connections go to all of them.

    The connections that an excluded listener has queued stay there. Closing the listener or
    shutting it down would reset them, and shutdown() also breaks the connections that it accepts
    later. Outside Linux, or in a sandbox that does not support the option, nothing changes.

    Args:
        listeners: the sockets from listen(), in the same order.
        excluded: indices of listeners whose workers do not start.
    """
    numbers = range(len(listeners))
    chosen = [number for number in numbers if number not in excluded] or list(numbers)
    program = [(BPF_LOAD, 0, 0, BPF_RANDOM_NUMBER), (BPF_MODULO, 0, 0, len(chosen))]
    for remainder, number in enumerate(chosen):
        program += [(BPF_JUMP_IF_EQUAL, 0, 1, remainder), (BPF_RETURN, 0, 0, number)]
    program.append((BPF_RETURN, 0, 0, chosen[0]))  # required last instruction, never reached
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(instructions)
    option = struct.pack("HP", len(program), ctypes.addressof(buffer))
    if IS_LINUX:
        with contextlib.suppress(OSError):
            # The program applies to all sockets that share the port.
            listeners[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, option)


def close_queued_connections(listener: socket.socket) -> int:
    """Close the connections that a listener has queued; return their number."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(OSError):  # the queue is empty
        while True:
            listener.accept()[0].close()
            count += 1
    return count
