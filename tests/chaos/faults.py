"""The events of a chaos run: kills, hangs, reloads and new versions, at random moments."""

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.journal import Journal
from tests.chaos.load import READYZ, LoadRequest, client_ports, connect, exchange, hit
from tests.chaos.publisher import FAULTS, NAME, Publisher
from tests.serving import Server, until

TOKEN = "chaos"  # noqa: S105 # no secret
"""Access token of all clients."""
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
PROBE_TIMEOUT_SECONDS = 1.0
"""Maximum time to wait for one reply about readiness; a stopped worker sends none."""
MAX_PAUSE_SECONDS = 1.0
"""Maximum pause between two kills in a row, short enough to hit workers that are starting."""
WEIGHTS = {
    **{"kill": 5, "stop": 3, "reload": 2, "reload bad tokens": 2},
    **{"swap": 3, "publish bad version": 3},
}
"""Relative frequency of each fault, by the name of its method with spaces."""
State = Mapping[str, Any]
"""The document of /readyz."""


@dataclass
class Faults:
    """Causes faults in a server, one at a time, and waits after each until it has recovered.

    Each kind of fault is a method.
    """

    server: Server
    workers: int
    """Number of workers that the server keeps running."""
    publisher: Publisher
    token_file: Path
    choices: random.Random
    journal: Journal
    weights: Mapping[str, int]
    """Relative frequency of each fault, by the name of its method with spaces."""
    end: threading.Event
    """Set when the run ends."""
    current_version: int = 1
    """The newest good version."""
    recovery_seconds: float = 0.0
    """Time from the last fault until all workers were ready again."""
    longest: dict[str, float] = field(default_factory=dict)
    """Longest recovery_seconds, by fault."""

    def run_one(self) -> None:
        """Cause one fault, chosen at random, and wait for the recovery."""
        name = self.choices.choices(list(self.weights), list(self.weights.values()))[0]
        getattr(self, name.replace(" ", "_"))()
        self.longest[name] = max(self.longest.get(name, 0.0), self.recovery_seconds)
        self.journal.write("recovered", after=name, wait=round(self.recovery_seconds, 3))

    def summary(self) -> str:
        """Return the number of events and the longest recoveries as text."""
        counts = (f"{name} {count}" for name, count in sorted(self.journal.counts.items()))
        longest = (f"{name} {seconds:.1f} s" for name, seconds in self.longest.items())
        return f"{', '.join(counts)}\nlongest recovery: {', '.join(longest)}"

    def kill(self) -> None:
        """Kill one worker or several in a row, whatever their age."""
        for _ in range(self.choices.choice((1, 1, 2, 3, 5, 10))):
            self._hit(self.choices.choice(until(self._processes)), signal.SIGKILL)
            pause = self.choices.uniform(0.0, MAX_PAUSE_SECONDS)
            self.end.wait(self.choices.choice((0.0, pause)))
        self.wait()

    def stop(self) -> None:
        """Stop one worker or all of them with SIGSTOP; the server must replace them."""
        processes = self._processes()
        for process in self.choices.sample(processes, self.choices.randint(1, len(processes))):
            self._hit(process, signal.SIGSTOP)
        self.wait()

    def reload(self) -> None:
        """Send SIGHUP with a further token: every worker is replaced, and knows the token."""
        before = {process.pid for process in self._processes()}
        token = f"token-{self.choices.getrandbits(64):x}"
        self.token_file.write_text(f"{TOKEN}\n{token}\n")
        for _ in range(self.choices.choice((1, 1, 3))):
            self._hang_up("good tokens")
        self.wait(replaced=before)
        request = LoadRequest("GET", "/model", headers={"X-API-Key": token})
        with contextlib.closing(connect(self.server.port)) as connection:
            assert 200 == exchange(connection, request)[0], "the new token is not accepted"

    def reload_bad_tokens(self) -> None:
        """Send SIGHUP with an unusable token file: the workers stay, and the log says why."""
        good, before = self.token_file.read_text(), self._processes()
        fault = self.choices.choice(("empty", "missing", "a folder", "not ASCII"))
        self.token_file.unlink()
        if fault == "a folder":
            self.token_file.mkdir()
        elif fault != "missing":
            self.token_file.write_text("" if fault == "empty" else "caf\u00e9")
        logged = len(self.server.log_lines())
        self._hang_up(fault)
        until(lambda: any("token_file" in line for line in self.server.log_lines()[logged:]))
        if fault == "a folder":
            self.token_file.rmdir()
        self.token_file.write_text(good)
        self.wait()
        assert before == self._processes(), "a reload with bad tokens replaced the workers"

    def swap(self) -> None:
        """Publish a good version: every worker serves it."""
        network = 1 - self.publisher.network_of_version[self.current_version]
        self.current_version = self.publisher.publish(network)
        self.journal.write("good version", version=self.current_version)
        self.wait(lambda state: "problem" not in state)

    def publish_bad_version(self) -> None:
        """Publish a version that is damaged or has reordered features: every worker reports it."""
        fault = self.choices.choice(FAULTS)
        version = self.publisher.publish(self.choices.randrange(2), fault)
        self.journal.write("bad version", version=version, fault=fault)
        path = str(self.publisher.artifacts / NAME / str(version))
        self.wait(lambda state: path in state.get("problem", ""))

    def wait(
        self,
        condition: Callable[[State], bool] = lambda state: True,
        replaced: Collection[int] = (),
    ) -> None:
        """Wait until every worker is ready and serves the newest good version.

        Args:
            condition: further condition on each worker's reply to /readyz.
            replaced: process numbers of workers that must have ended.
        """
        ready: set[int] = set()

        def all_ready() -> bool:
            alive = {process.pid for process in self._processes()}
            if len(alive) == self.workers and alive <= ready and alive.isdisjoint(replaced):
                return True
            # A worker may be stopped or killed after it has accepted the connection.
            with contextlib.suppress(OSError, HTTPException):
                ready.update(self._ready_worker(condition))
            return False

        started = time.monotonic()
        until(all_ready)
        self.recovery_seconds = time.monotonic() - started

    def _ready_worker(self, condition: Callable[[State], bool]) -> set[int]:
        """Return the process number of the worker that answers, if it meets the condition."""
        with contextlib.closing(connect(self.server.port, PROBE_TIMEOUT_SECONDS)) as connection:
            connection.connect()
            local_port = connection.sock.getsockname()[1]
            status, body = exchange(connection, READYZ)
            state = json.loads(body)
            version = str(self.current_version)
            if status == 200 and state["model"]["version"] == version and condition(state):
                return self._owners(local_port)
        return set()

    def _owners(self, port: int) -> set[int]:
        """Return the number of the process that has accepted a client's connection, by its port."""
        owners = set()
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if port in client_ports(process):
                    owners.add(process.pid)
        return owners

    def _processes(self) -> list[psutil.Process]:
        return sorted(self.server.workers(), key=lambda process: process.pid)

    def _hang_up(self, tokens: str) -> None:
        self.journal.write("SIGHUP", tokens=tokens)
        self.server.process.send_signal(signal.SIGHUP)

    def _hit(self, process: psutil.Process, number: signal.Signals) -> None:
        """Kill or stop a worker, and record the connections that may break."""
        age = time.time() - process.create_time()
        self.journal.hits.append(hit(process, number))
        self.journal.write(number.name, process=process.pid, age=round(age, 2))
