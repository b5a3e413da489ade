"""Tests of service.web.uploads and sending: slow clients lose their connections, others do not."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from service.errors import Refused
from service.host.abort import ABORT
from service.protocols.messages import Reply
from service.runtime.admission import Admission
from service.runtime.budget import ByteBudget
from service.web import uploads as module
from service.web.sending import MIN_HELD_BYTES, HeldParts
from service.web.uploads import UploadLimits, Uploads
from tests.serving import DEADLINE_SECONDS, Server, free_port, granian, serving, until
from tests.stored import StoredArtifact

Aborted = list[tuple[int, bytes]]
"""Statuses and bodies of the replies to aborted requests."""


def new_uploads(max_admitted: int, **limits: Any) -> tuple[Uploads, Aborted]:
    """Return Uploads, and the list that records the replies to its aborted requests."""
    admission = Admission(1, max_admitted, deadline_seconds=1)
    return Uploads(UploadLimits(**limits), admission, ByteBudget(1000, 0.01, "tests")), []


def environ(aborted: Aborted) -> dict[str, Any]:
    """Return the environ of a request whose aborts are recorded."""

    def abort(status: int, headers: object, body: bytes) -> None:
        aborted.append((status, body))

    return {ABORT: abort, "CONTENT_LENGTH": "10"}


def test_late_bodies_give_up_their_admissions() -> None:
    """More requests are admitted than there are permits if the bodies of others are late."""
    uploads, aborted = new_uploads(2)
    late = []
    for _ in range(4):
        uploads.admit()
        late.append(uploads.start(environ(aborted), "id"))
    assert [False, False] == [uploads.finish(upload) for upload in late[:2]]
    assert [True, True] == [uploads.finish(upload) for upload in late[2:]]
    assert [] == aborted


def test_requests_that_run_keep_their_admissions() -> None:
    """Without late bodies, excess requests are refused."""
    uploads, aborted = new_uploads(2)
    for _ in range(2):
        uploads.admit()
        assert uploads.finish(uploads.start(environ(aborted), "id"))
    with pytest.raises(Refused, match="2 other requests are running or waiting to run"):
        uploads.admit()


def test_slowest_body_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all places are taken, the body without progress for the longest time is aborted."""
    monkeypatch.setattr(module, "MIN_EVICTION_SECONDS", 86400)
    uploads, aborted = new_uploads(1, max_late=1)
    uploads.admit()
    first = uploads.start(environ(aborted), "first")
    uploads.admit()
    second = uploads.start(environ(aborted), "second")
    with pytest.raises(Refused, match="the bodies of 2 other requests are still arriving"):
        uploads.admit()
    monkeypatch.setattr(module, "MIN_EVICTION_SECONDS", 0)
    uploads.admit()
    until(lambda: aborted)
    assert [408] == [status for status, _ in aborted]
    with pytest.raises(Refused, match="too slowly while many others were arriving") as error:
        uploads.finish(first)
    assert (408, "slow_upload") == (error.value.status, error.value.reason)
    assert not uploads.finish(second)


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"grace_seconds": 0, "min_bytes_per_second": 1e6}, "slowly than 1e+06 bytes/s after 0 s"),
        ({"max_seconds": 0}, "the body did not arrive within 0 s"),
    ],
)
@pytest.mark.parametrize("is_rejected", [False, True])
def test_limits(limits: dict[str, float], problem: str, is_rejected: bool) -> None:
    """A body that breaks a limit is aborted; its request gives its admission back."""
    uploads, aborted = new_uploads(1, **limits)
    if is_rejected:
        upload = uploads.start_discarding(environ(aborted), "id", Reply(b"rejected", status=401))
        assert upload
    else:
        uploads.admit()
        upload = uploads.start(environ(aborted), "id")
    until(lambda: aborted)
    if is_rejected:
        assert [(401, b"rejected")] == aborted
    else:
        assert (408, True) == (aborted[0][0], problem in json.loads(aborted[0][1])["detail"])
    with pytest.raises(Refused, match="body"):
        uploads.finish(upload)
    uploads.admit()


def test_waiting_for_memory_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waits for memory is not aborted; it is refused at the deadline."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    budget = ByteBudget(1000, 0.2, "tests")
    limits = UploadLimits(grace_seconds=0, min_bytes_per_second=1e9)
    aborted: Aborted = []
    uploads = Uploads(limits, Admission(1, 1, deadline_seconds=1), budget)
    budget.reserve(1000)  # by a request that has arrived
    waiting = uploads.start(environ(aborted), "waits")
    waiting.piece_start = float("inf")  # until it waits
    with pytest.raises(Refused, match="for tests"):
        waiting.expect(1)
    assert ([], None) == (aborted, waiting.problem)


def test_stalled_body_loses_its_memory_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without progress that holds the memory is aborted when another one waits for it."""
    monkeypatch.setattr(module, "MIN_EVICTION_SECONDS", 0)
    aborted: Aborted = []
    uploads = Uploads(
        UploadLimits(), Admission(1, 2, 1), ByteBudget(1000, DEADLINE_SECONDS, "tests")
    )
    stalled, other = (uploads.start(environ(aborted), name) for name in ("stalled", "other"))
    stalled.expect(500)

    def end() -> None:
        until(lambda: aborted)
        stalled.release()

    thread = threading.Thread(target=end)
    thread.start()
    other.expect(1)
    thread.join()
    assert "stood still while others waited" in json.loads(aborted[0][1])["detail"]


def test_rejected_requests_take_no_place_from_others() -> None:
    """If all places are taken, the body of a rejected request is not read."""
    uploads, aborted = new_uploads(1, max_late=1)
    rejection = Reply(b"", status=401)
    assert uploads.start_discarding(environ(aborted), "first", rejection)
    assert uploads.start_discarding(environ(aborted), "second", rejection) is None


def test_excess_requests_do_not_wait_while_bodies_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that make progress are no reason to wait, except for a moment at the beginning."""
    uploads, aborted = new_uploads(1)
    uploads.admit()
    upload = uploads.start(environ(aborted), "id")
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)
        upload.note_progress()

    monkeypatch.setattr(module, "sleep", sleep)
    text = "the bodies of 1 other requests are still arriving"
    with pytest.raises(Refused, match=text):
        uploads.admit()
    assert waits
    waits.clear()
    with pytest.raises(Refused, match=text):
        uploads.admit()
    assert [] == waits


def test_memory_of_a_body_follows_its_size() -> None:
    """The reserved memory shrinks to that of the complete body, and is given back at the end."""
    uploads, aborted = new_uploads(1)
    upload = uploads.start(environ(aborted), "id")
    upload.expect(500)
    upload.shrink(100)
    assert 200 == upload.reserved
    upload.release()
    assert 0 == upload.reserved


def test_large_replies_hold_memory() -> None:
    """The memory of a reply is free again when the host closes its parts, and only once."""
    budget = ByteBudget(MIN_HELD_BYTES + 100, 0.01, "tests")
    body = bytes(range(256)) * (MIN_HELD_BYTES // 256) + b"x"
    parts = HeldParts(body, budget)
    with pytest.raises(Refused):
        HeldParts(body, budget)
    assert body == b"".join(parts)
    parts.close()
    parts.close()
    HeldParts(body, budget)
    with pytest.raises(Refused):
        HeldParts(body, budget)


def test_large_reply_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline, the parts end early, for which the host closes the connection."""
    monkeypatch.setattr("service.web.sending.MAX_SEND_SECONDS", -1)
    assert [] == list(HeldParts(b"x" * (MIN_HELD_BYTES + 1), ByteBudget(1 << 20, 0.01, "tests")))


@pytest.fixture(scope="module")
def server(flowers: StoredArtifact) -> Iterator[Server]:
    """A server with one worker, few places and short limits."""
    port = free_port()
    options = {
        **{"workers": 1, "queue": 7, "slow-uploads": 8, "upload-grace-seconds": 0.5},
        **{"min-upload-bytes-per-second": 100_000, "send-seconds": 1},
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with serving(granian(flowers.artifact, port, *words), port) as process:
        yield process


def connect(server: Server, body: bytes, length: int) -> socket.socket:
    """Send a prediction request with a declared length over a new connection."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS)
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.e2e
def test_stalled_uploads_do_not_stop_predictions(server: Server) -> None:
    """Predictions and probes succeed while more uploads stall or drip than there are permits."""
    body = json.dumps({"instances": [[1, 2, 3, 4]]}).encode()
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(connect(server, b"{", 1000)) for _ in range(14)]

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.01):
                    stalled[0].sendall(b" ")

        threading.Thread(target=drip).start()
        stack.callback(stop.set)
        headers = {"Content-Type": "application/json"}
        for _ in range(20):
            assert 200 == server.request("POST", "/predict", body, **headers)[0]
            assert 200 == server.request("GET", "/readyz")[0]
        for connection in stalled[1:]:
            reply = read_to_end(connection)
            assert reply.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            document = json.loads(reply.partition(b"\r\n\r\n")[2])
            assert "slowly" in document["detail"]
        with contextlib.suppress(ConnectionResetError):
            read_to_end(stalled[0])


@pytest.mark.e2e
def test_unread_reply_is_dropped(server: Server) -> None:
    """A connection whose client reads nothing is closed, and the service goes on."""
    rows = json.dumps({"instances": [[1, 2, 3, 4]] * 60_000}, separators=(",", ":")).encode()
    (worker,) = server.workers()
    with connect(server, b"", 0) as connection:
        read = connection.recv(1 << 16)
        assert b" 400 " in read
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(rows)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + rows)
        port = connection.getsockname()[1]

        def is_connected() -> bool:
            return any(peer.raddr and peer.raddr[1] == port for peer in worker.net_connections())

        assert is_connected()
        until(lambda: not is_connected())
    assert psutil.pid_exists(worker.pid)
    assert 200 == server.request("GET", "/readyz")[0]
