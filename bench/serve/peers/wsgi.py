"""The least that can answer: no checks but one, no identifiers, no metrics. hosted.py gives it the service's host."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx_session
import orjson
import simdjson
from flask import Flask, Response, request
from numpy.typing import NDArray

ORJSON_BYTES = 256
"""Up to here orjson is the faster parser."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def ceiling() -> Application:
    """Make a callable of the fastest known parts: nothing on this host can answer faster.

    The parser is the one that is faster at the body's size; bytes are taken and given as they are.
    """
    session = onnx_session.load()
    width = session.get_inputs()[0].shape[1]
    parsers = threading.local()  # a parser is for one thread

    def parse(body: bytes) -> NDArray[np.float32]:
        if len(body) <= ORJSON_BYTES:
            return np.array(orjson.loads(body)["instances"], np.float32)
        try:
            parser = parsers.parser
        except AttributeError:
            parser = parsers.parser = simdjson.Parser()
        flat = np.frombuffer(parser.parse(body)["instances"].as_buffer(of_type="d"))
        return flat.astype(np.float32).reshape(-1, width)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if environ["CONTENT_TYPE"] == "application/octet-stream":
            rows = np.frombuffer(body, np.float32).reshape(-1, width)
            content, answer = (
                environ["CONTENT_TYPE"],
                session.run(["probabilities"], {"input": rows})[0].tobytes(),
            )
        else:
            probabilities, labels = session.run(["probabilities", "label"], {"input": parse(body)})
            content, answer = "application/json", dumped(probabilities, labels)
        start_response("200 OK", [("Content-Type", content), ("Content-Length", str(len(answer)))])
        return [answer]

    return application


def bare() -> Application:
    """Make the callable that most would write: orjson, numpy.asarray, and the check that the numbers are finite."""
    session = onnx_session.load()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        answer = predicted(session, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response(
            "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
        )
        return [answer]

    return application


def view() -> Application:
    """Make the same as a view of Flask."""
    session = onnx_session.load()
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> Response:
        return Response(predicted(session, request.get_data()), mimetype="application/json")

    return app


def predicted(session: Any, body: bytes) -> bytes:
    """Return the reply to a body, JSON to JSON."""
    rows = np.asarray(orjson.loads(body)["instances"], np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("expected finite numbers")
    probabilities, labels = session.run(["probabilities", "label"], {"input": rows})
    return dumped(probabilities, labels)


def dumped(probabilities: NDArray[Any], labels: NDArray[Any]) -> bytes:
    """Return the reply's JSON."""
    answer = {"predictions": labels, "probabilities": probabilities}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
