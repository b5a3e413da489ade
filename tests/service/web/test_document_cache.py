"""Tests of service.web.document_cache: documents are rendered once per version."""

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from service.artifact.manifest import Manifest
from service.observe.metrics import WorkerMetrics
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.served_schema import ServedSchema
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.context import load_context
from service.web.document_cache import DocumentCache
from service.web.information_routes import information_routes
from tests.stored import StoredArtifact

PATHS = ("/docs", "/openapi.json", "/model", "/")
HTML = {"Accept": "text/html"}
CLIENTS = 8


def serve(stored: StoredArtifact) -> ServedModel:
    """Load a version."""
    predictor = Predictor(stored.artifact)
    return ServedModel(predictor, predictor.predict, max_rows=1)


def test_concurrent_requests_render_once(flowers: StoredArtifact) -> None:
    """The first of many concurrent requests renders a document, and all others wait for it."""
    cache, served = DocumentCache(), serve(flowers)
    start, second_call = threading.Barrier(CLIENTS), threading.Barrier(2)
    calls: list[int] = []

    def render() -> bytes:
        calls.append(1)
        with contextlib.suppress(threading.BrokenBarrierError):
            second_call.wait(timeout=0.1)
        return b"page"

    def get(client: int) -> bytes:
        start.wait()
        return cache.get(served, "/docs", render)

    with ThreadPoolExecutor(CLIENTS) as clients:
        assert [b"page"] * CLIENTS == list(clients.map(get, range(CLIENTS)))
    assert [1] == calls


def test_failed_render_is_repeated(flowers: StoredArtifact) -> None:
    """An error reaches the request that rendered, and the next request renders again."""
    cache, served = DocumentCache(), serve(flowers)
    with pytest.raises(ZeroDivisionError):
        cache.get(served, "/docs", lambda: bytes(1 // 0))
    assert b"x" == cache.get(served, "/docs", lambda: b"x")


def test_versions_have_their_own_documents(flowers: StoredArtifact) -> None:
    """The cache does not mix up versions, and does not keep a replaced version in memory."""
    cache, old, new = DocumentCache(), serve(flowers), serve(flowers)
    for served, body in ((old, b"old"), (new, b"new"), (old, b"old")):
        assert body == cache.get(served, "/docs", lambda body=body: body)  # type: ignore[misc]
    reference = weakref.ref(old)
    del old, served
    gc.collect()
    assert reference() is None


def test_routes_use_the_cache(flowers: StoredArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reply of a route neither runs the network nor serialises the manifest."""
    client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    first = [client.get(path, headers=HTML).data for path in PATHS]
    for owner, name in ((Predictor, "predict"), (Manifest, "to_json")):
        monkeypatch.setattr(owner, name, lambda *_: 1 // 0)
    assert first == [client.get(path, headers=HTML).data for path in PATHS]


def test_new_version_has_new_documents(artifact: Path, add_version: Callable[..., Path]) -> None:
    """After a hot swap, every document describes the new version."""
    settings = ServiceSettings(artifact=artifact.parent)
    context = load_context(settings, WorkerMetrics(), ServedSchema())
    app = Flask("service.web.app", template_folder="pages")
    app.register_blueprint(information_routes(context))
    client = app.test_client()
    with contextlib.closing(context.versions):
        first = [client.get(path, headers=HTML).data for path in PATHS]
        add_version(2)
        context.versions.poll()
        second = [client.get(path, headers=HTML).data for path in PATHS]
    assert not set(first) & set(second)
