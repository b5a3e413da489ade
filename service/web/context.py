"""The objects that the views share: settings, versions, access control, metrics, predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from service.artifact import storage
from service.errors import Refused
from service.host.memory import available_memory, default_memory_bytes
from service.observe.metrics import WorkerMetrics
from service.runtime.admission import Admission
from service.runtime.request_memory import split_memory
from service.runtime.served_model import ServedModel, load_served_model
from service.runtime.served_schema import ServedSchema
from service.runtime.versions import NOT_READY_HEADERS, Versions
from service.settings import ServiceSettings
from service.web.request_path import NATIVE, V1, V2, PredictionPath, Protocol
from service.web.security import AccessControl
from service.web.uploads import UploadLimits, Uploads


@dataclass(frozen=True)
class ServiceContext:
    """The objects that the views of one application share."""

    settings: ServiceSettings
    versions: Versions
    access: AccessControl
    metrics: WorkerMetrics
    predict: PredictionPath
    fast_routes: Mapping[str, Protocol]
    """Protocols by path, for Dispatch; a loaded model adds the paths that contain its name."""


def load_context(
    settings: ServiceSettings, metrics: WorkerMetrics, schema: ServedSchema
) -> ServiceContext:
    """Load the artifact and return the context; a broken artifact makes the service not ready.

    Raise SettingsError if the token file is unusable.
    """
    access = AccessControl(settings.tokens(), settings.origins)
    fast_routes = {"/predict": NATIVE}

    def on_reload(served: ServedModel | None) -> None:
        metrics.count_reload(served is not None)
        if served is not None:
            manifest = served.predictor.manifest
            fast_routes[f"/v2/models/{manifest.name}/infer"] = V2
            fast_routes[f"/v1/models/{manifest.name}:predict"] = V1
            metrics.set_version(manifest.version, served.predictor.digest)
            metrics.set_ready(True)

    versions = Versions(
        lambda: settings.artifact or storage.only_artifact(settings.artifacts),
        lambda path: load_served_model(path, settings, metrics),
        check_schema=partial(schema.require, allow_change=settings.allow_schema_change),
        poll_seconds=settings.poll_seconds,
        on_reload=on_reload,
    )
    slots = settings.in_flight or 1
    admission = Admission(slots, slots + settings.queue, settings.queue_seconds, metrics.count_wait)
    memory = split_memory(
        # The number of workers of another host is unknown; `serve` always sets the memory.
        settings.memory_bytes or default_memory_bytes(1, available_memory()),
        settings.queue_seconds,
    )
    limits = UploadLimits(
        settings.slow_uploads,
        settings.min_upload_bytes_per_second,
        settings.upload_grace_seconds,
        settings.upload_seconds,
    )
    predict = PredictionPath(
        find=versions.find,
        access=access,
        admission=admission,
        uploads=Uploads(limits, admission, memory.bodies, access.common_headers),
        memory=memory,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
    )
    return ServiceContext(settings, versions, access, metrics, predict, fast_routes)


def find_model(context: ServiceContext, model: str, version: str | None = None) -> ServedModel:
    """Return a version of the served model, by default the current one.

    Raise Refused: 404 for another model or version, 503 while no version is loaded.
    """
    served = context.versions.find(version)
    name = served.predictor.manifest.name
    if model != name:
        raise Refused(404, f"expected the model {name}, found {model[:80]!r}", reason="not_found")
    return served


def require_ready(context: ServiceContext) -> None:
    """Raise Refused (503) while the service drains before it stops."""
    if context.metrics.shared.draining:
        detail = "not ready: the service is draining before it stops"
        raise Refused(503, detail, reason="not_ready", headers=NOT_READY_HEADERS)
