"""Tests of service.host.sockets: listening sockets."""

import contextlib
import select
import socket
import sys

import pytest

from service.host.sockets import TCP_KEEPALIVE_SECONDS, assign_connections, listen
from service.settings import SettingsError
from tests.serving import free_port


def test_taken_port() -> None:
    """A port that another server uses is refused, even if that server would share it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = rf"^127.0.0.1:{port}: the port is taken; choose another with --port or "
        with pytest.raises(SettingsError, match=message):
            listen("127.0.0.1", port, 2)
    with contextlib.ExitStack() as stack:
        for listener in listen("127.0.0.1", port, 2):
            stack.enter_context(listener)
        with pytest.raises(SettingsError, match="the port is taken"):
            listen("127.0.0.1", port, 2)


def test_host_names() -> None:
    """A host name is resolved; an invalid host is refused."""
    with listen("localhost", free_port(), 1)[0] as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")
    with pytest.raises(SettingsError, match=r"^256\.0\.0\.1: "):
        listen("256.0.0.1", free_port(), 1)


def test_tcp_keepalive() -> None:
    """TCP keep-alive detects a dead peer within TCP_KEEPALIVE_SECONDS."""
    with (
        listen("127.0.0.1", free_port(), 1)[0] as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert 1 == accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, count = (accepted.getsockopt(socket.IPPROTO_TCP, name) for name in options)
        assert TCP_KEEPALIVE_SECONDS == idle + interval * count


@pytest.mark.skipif(sys.platform != "linux", reason="other systems share one socket")
@pytest.mark.parametrize(
    ("excluded", "expected"),
    [([], {0, 1, 2}), ([1], {0, 2}), ([0, 1], {2}), ([0, 1, 2], {0, 1, 2})],
)
def test_assign_connections(excluded: list[int], expected: set[int]) -> None:
    """New connections reach all listeners that are not excluded, or all if none is left."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in listen("127.0.0.1", free_port(), 3)]
        address = listeners[0].getsockname()
        assign_connections(listeners, [2])
        assign_connections(listeners, excluded)
        connections = [stack.enter_context(socket.create_connection(address)) for _ in range(60)]
        readable, _, _ = select.select(listeners, [], [], 0)
        assert expected == {listeners.index(listener) for listener in readable}
        assert 60 == len(connections)
