"""Tests of service.web.document_cache: documents are rendered once per version."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.artifact.manifest import Manifest
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.document_cache import DocumentCache
from tests.serving import until
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
    cache, served, start = DocumentCache(), serve(flowers), threading.Barrier(CLIENTS)
    calls: list[str] = []

    def get(path: str) -> bytes:
        def render() -> bytes:
            calls.append(path)
            return path.encode()

        start.wait()
        return cache.get(served, path, render)

    with ThreadPoolExecutor(CLIENTS) as clients:
        paths = ["/docs", "/model"] * (CLIENTS // 2)
        assert [path.encode() for path in paths] == list(clients.map(get, paths))
    assert ["/docs", "/model"] == sorted(calls)


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
    settings = ServiceSettings(artifact=artifact.parent, poll_seconds=0.05)
    client = create_app(settings).test_client()
    first = [client.get(path, headers=HTML).data for path in PATHS]
    add_version(2)
    until(lambda: b'"version":"2"' in client.get("/readyz").data)
    second = [client.get(path, headers=HTML).data for path in PATHS]
    assert not set(first) & set(second)
