"""Upper bound on throughput: a minimal application on the service's HTTP server and defaults.

    python ceiling.py PORT

It combines the fastest known parser, runtime and serializer, without checks, request ids or
metrics. No application on this HTTP server can reply faster.
"""

import sys
from collections.abc import Callable
from typing import Any

from service.commands.serve import SPARE_THREADS
from service.host.granian_adapter import GranianWorkers
from service.host.sockets import listen
from service.host.supervisor import Supervisor
from service.settings import ServiceSettings

MAX_ORJSON_BYTES = 256
"""Largest body for which orjson is faster than simdjson."""
Application = Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]


def create_app() -> Application:
    """Return a WSGI application that takes and returns JSON or the bytes of the arrays."""
    # Imported here, in the worker, to keep the parent process as small as the service's.
    import threading

    import numpy as np
    import onnx_session
    import orjson
    import simdjson

    session = onnx_session.load()
    width = session.get_inputs()[0].shape[1]
    # A parser must not be shared by threads.
    local = threading.local()

    def parse(body: bytes) -> Any:
        if len(body) <= MAX_ORJSON_BYTES:
            return np.array(orjson.loads(body)["instances"], np.float32)
        if not hasattr(local, "parser"):
            local.parser = simdjson.Parser()
        values = np.frombuffer(local.parser.parse(body)["instances"].as_buffer(of_type="d"))
        return values.astype(np.float32).reshape(-1, width)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        content_type = environ["CONTENT_TYPE"]
        if content_type.startswith("application/octet-stream"):
            rows = np.frombuffer(body, np.float32).reshape(-1, width)
            content = session.run(["probabilities"], {"input": rows})[0].tobytes()
        else:
            probabilities, labels = session.run(["probabilities", "label"], {"input": parse(body)})
            document = {"predictions": labels, "probabilities": probabilities}
            content = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(content)))]
        start_response("200 OK", headers)
        return [content]

    return application


if __name__ == "__main__":
    settings = ServiceSettings()
    threads = (settings.in_flight or 1) + settings.queue + SPARE_THREADS
    listeners = listen("127.0.0.1", int(sys.argv[1]), 1)
    workers = GranianWorkers(listeners, lambda slot: create_app(), threads=threads)
    Supervisor(listeners, workers.start, drain_seconds=0).run()
