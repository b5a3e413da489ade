"""service.host around a small application, as a process for test_host.py: python -m tests.hosted PORT OPTIONS."""

import json
import logging
import mmap
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.host.sockets import listen
from service.host.supervisor import Supervisor

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


def main() -> None:
    """Serve; `broken` lists the slots whose application cannot be made, the other options are the host's own."""
    options = json.loads(sys.argv[2])
    broken = options.pop("broken", [])
    draining = mmap.mmap(-1, 1)
    listeners = listen("127.0.0.1", int(sys.argv[1]), options.pop("workers", 1))
    options |= {name: Path(options[name]) for name in ("certificate", "key") if name in options}

    def load(slot: int) -> "WSGIApplication":
        if slot in broken:
            raise RuntimeError("no application here")

        def application(
            environ: dict[str, Any], start_response: "StartResponse"
        ) -> Iterable[bytes]:
            if (
                environ["PATH_INFO"] == "/wait"
            ):  # until the test makes a file, having been told by another
                folder = Path(environ["QUERY_STRING"])
                (folder / "entered").touch()
                while not (folder / "go").exists():
                    time.sleep(0.005)
            if environ["REQUEST_METHOD"] == "POST":
                environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            ready = environ["PATH_INFO"] != "/readyz" or not draining[0]
            body = json.dumps(
                {"slot": slot, "process": os.getpid(), "scheme": environ["wsgi.url_scheme"]}
            ).encode()
            start_response(
                "200 OK" if ready else "503 Service Unavailable",
                [("Content-Length", str(len(body)))],
            )
            return [body]

        return application

    Supervisor(listeners, threads=32, draining=lambda: draining.write_byte(1), **options).run(load)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    main()
