"""A small app run by service.host: python -m tests.service.host.small_server PORT OPTIONS."""

import functools
import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from service.host.granian_adapter import GranianWorkers, retire
from service.host.heartbeat import Heartbeats
from service.host.sockets import listen
from service.host.supervisor import Supervisor
from service.host.tls import KeyPair, check_key_pair


def main() -> None:
    """Serve with the options of a JSON document.

    `workers` is the number of workers, `broken` lists the slots whose application raises an error,
    and `key_pair` is a list of two paths; all other options are passed to Supervisor.
    """
    port, options = int(sys.argv[1]), json.loads(sys.argv[2])
    listeners = listen("127.0.0.1", port, options.pop("workers", 1))
    broken = options.pop("broken", [])
    paths = options.pop("key_pair", None)
    key_pair = KeyPair(*map(Path, paths)) if paths else None
    heartbeats = Heartbeats(2 * len(listeners))

    def load(row: int) -> WSGIApplication:
        slot = row % len(listeners)
        if slot in broken:
            raise RuntimeError("no application here")
        return functools.partial(answer, slot)

    def retire_worker(row: int, process: BaseProcess) -> None:
        retire(process)

    workers = GranianWorkers(
        listeners,
        load,
        heartbeats,
        threads=32,
        key_pair=key_pair,
        hang_seconds=options.get("hang_seconds", 30.0),
    )
    Supervisor(
        listeners,
        workers.start,
        heartbeats,
        retire_worker=retire_worker,
        check_reload=functools.partial(check_key_pair, key_pair),
        **options,
    ).run()


def answer(slot: int, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Reply with slot, process and scheme; `/wait?FOLDER` first waits for the file FOLDER/go."""
    if environ["PATH_INFO"] == "/wait":
        folder = Path(environ["QUERY_STRING"])
        (folder / "entered").touch()
        while not (folder / "go").exists():
            time.sleep(0.005)
    if environ["REQUEST_METHOD"] == "POST":
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    reply = {"slot": slot, "process": os.getpid(), "scheme": environ["wsgi.url_scheme"]}
    body = json.dumps(reply).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    main()
