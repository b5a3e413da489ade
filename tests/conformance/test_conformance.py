"""Every generated request has the expected outcome: `make conformance`.

Environment variables: CONFORMANCE_REQUESTS (number of requests), CONFORMANCE_SEED,
CONFORMANCE_JOBS (number of client processes), CONFORMANCE_WORKERS (number of workers per server),
CONFORMANCE_KINDS (send only the kinds whose name contains it, and none to the server with tokens),
CONFORMANCE_ARTIFACTS (folders artifacts/<name>/<version>, separated by colons) and
CONFORMANCE_FIRST (number of the first request). Seed and number determine a request.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conformance.kinds import guarded
from tests.conformance.runner import Plan, Tally, send_all
from tests.conformance.served import Limits
from tests.serving import Server, free_port, granian, serving
from tests.stored import FLOWERS, HOUSES

pytestmark = pytest.mark.e2e

REQUESTS = int(os.environ.get("CONFORMANCE_REQUESTS", "20000"))
SEED = int(os.environ.get("CONFORMANCE_SEED", "0"))
JOBS = int(os.environ.get("CONFORMANCE_JOBS", "4"))
WORKERS = os.environ.get("CONFORMANCE_WORKERS", "1")
KIND_FILTER = os.environ.get("CONFORMANCE_KINDS", "")
ARTIFACTS = os.environ.get("CONFORMANCE_ARTIFACTS", f"{FLOWERS.artifact}:{HOUSES.artifact}")
FIRST_NUMBER = int(os.environ.get("CONFORMANCE_FIRST", "0"))
QUICK_REQUESTS = 300
REQUESTS_PER_GUARDED = 10
"""Number of requests to open servers for each request to the server with tokens and CORS."""
MIN_ACCEPTED_SHARE = 0.1
"""Minimum share of replies with status 200 among the kinds that a server may also refuse."""
REFUSABLE_KINDS = ("headers: of predictions", "headers: that frame a message")
"""Beginnings of the names of these kinds."""
MAX_GROWTH_MEGABYTES = 40
"""Maximum growth of a server after the first tenth of the requests."""
FAILURE_TEXT = re.compile(r"Traceback|request failed|panicked|Error\b")
"""Text that no request may cause in the log."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Server]]:
    """Running servers by artifact, with limits so low that many requests reach them."""
    folder = tmp_path_factory.mktemp("servers")
    running = {}
    with contextlib.ExitStack() as stack:
        for position, artifact in enumerate(map(Path, ARTIFACTS.split(":"))):
            port, log = free_port(), folder / f"{position}.log"
            command = granian(artifact, port, "--workers", WORKERS)
            server = serving(command, port, Limits().environment(), log=log)
            running[artifact] = stack.enter_context(server)
        yield running


def plan(servers: Mapping[Path, Server], seed: int) -> Plan:
    """Return the plan of the requests to some servers."""
    ports = tuple(server.port for server in servers.values())
    return Plan(seed, tuple(servers), ports, kind_filter=KIND_FILTER)


def check(tally: Tally, servers: Iterable[Server]) -> None:
    """Assert that no reply was wrong and that no server logged a failure."""
    assert {} == tally.wrong, "\n\n".join(tally.examples.values())
    logs = [line for server in servers for line in server.log_lines()]
    assert [] == [line for line in logs if FAILURE_TEXT.search(line)]


def test_a_few_requests(servers: dict[Path, Server]) -> None:
    """Hundreds of generated requests have the expected outcome."""
    tally = Tally()
    for batch in send_all(plan(servers, SEED + 1), range(QUICK_REQUESTS), jobs=1):
        tally.add(batch)
    check(tally, servers.values())


def check_accepted(tally: Tally) -> None:
    """Assert that servers did not refuse every request that they may refuse."""
    refusable = [kind for kind in tally.sent if kind.startswith(REFUSABLE_KINDS)]
    shares = {kind: tally.statuses[kind, 200] / tally.sent[kind] for kind in refusable}
    assert {} == {kind: share for kind, share in shares.items() if share < MIN_ACCEPTED_SHARE}


@pytest.mark.conformance
def test_many_requests(servers: dict[Path, Server], capsys: pytest.CaptureFixture[str]) -> None:
    """Every reply is right, no worker dies, and no server's memory grows."""
    started = time.perf_counter()
    workers = [server.workers() for server in servers.values()]
    warm: list[float] = []
    tally = Tally()
    for batch in send_all(plan(servers, SEED), range(FIRST_NUMBER, FIRST_NUMBER + REQUESTS), JOBS):
        tally.add(batch)
        if not warm and 10 * tally.sent.total() >= REQUESTS:
            warm = [server.megabytes() for server in servers.values()]
    final = [server.megabytes() for server in servers.values()]
    seconds = time.perf_counter() - started
    with capsys.disabled():
        duration, request = tally.slowest
        print(
            f"\n{tally.sent.total()} requests of {len(tally.sent)} kinds with seed {SEED}: "
            f"{tally.wrong.total()} wrong, slowest {duration:.3f} s ({request}), {seconds:.1f} s"
        )
    check(tally, servers.values())
    check_accepted(tally)
    assert workers == [server.workers() for server in servers.values()]
    growth = [after - before for before, after in zip(warm, final, strict=True)]
    assert max(growth) <= MAX_GROWTH_MEGABYTES


@pytest.mark.conformance
@pytest.mark.skipif(bool(KIND_FILTER), reason="CONFORMANCE_KINDS selects kinds for open servers")
def test_guarded_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server with access tokens and CORS refuses every request without a token."""
    port, artifact, tokens = free_port(), FLOWERS.artifact, tmp_path / "tokens"
    tokens.write_text("\n".join(guarded.TOKENS))
    options = ("--token-file", str(tokens), "--cors-origins", ",".join(guarded.ORIGINS))
    command = granian(artifact, port, "--workers", WORKERS, *options)
    guarded_plan = Plan(SEED, (artifact,), (port,), group_weights={"guarded": 1})
    tally = Tally()
    with serving(command, port, Limits().environment(), log=tmp_path / "log") as server:
        for batch in send_all(guarded_plan, range(REQUESTS // REQUESTS_PER_GUARDED), JOBS):
            tally.add(batch)
        check(tally, [server])
    with capsys.disabled():
        print(f"\n{tally.sent.total()} requests with and without tokens")
