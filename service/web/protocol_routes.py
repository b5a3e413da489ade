"""Routes of the three protocols: predictions, and documents about the server and the model."""

from functools import partial

from flask import Blueprint, Response, request

from service.protocols import tfserving, v2
from service.web.context import ServiceContext, find_model, require_ready
from service.web.replies import document, respond
from service.web.request_path import NATIVE, V1, V2, Protocol

PREDICTIONS = "predictions"
"""Name of the blueprint whose requests the hooks in app.py skip."""


def prediction_routes(context: ServiceContext) -> Blueprint:
    """Return the POST routes of predictions, all handled by PredictionPath."""
    routes = Blueprint(PREDICTIONS, __name__)

    def predict(
        protocol: Protocol, model: str | None = None, version: str | None = None
    ) -> Response:
        find = None if model is None else partial(find_model, context, model, version)
        return respond(*context.predict(request.environ, protocol, find))

    @routes.post("/predict")
    def native_predict() -> Response:
        return predict(NATIVE)

    @routes.post("/v2/models/<model>/infer")
    @routes.post("/v2/models/<model>/versions/<version>/infer")
    def v2_infer(model: str, version: str | None = None) -> Response:
        return predict(V2, model, version)

    @routes.post("/v1/models/<model>:predict")
    @routes.post("/v1/models/<model>/versions/<version>:predict")
    def v1_predict(model: str, version: str | None = None) -> Response:
        return predict(V1, model, version)

    return routes


def v2_routes(context: ServiceContext) -> Blueprint:
    """Return the Open Inference Protocol's routes of metadata and health."""
    routes = Blueprint("v2", __name__, url_prefix="/v2")

    @routes.get("")
    @routes.get("/")
    def server() -> Response:
        return document(v2.SERVER)

    @routes.get("/health/live")
    def live() -> Response:
        return document({"live": True})

    @routes.get("/health/ready")
    def ready() -> Response:
        context.versions.find()
        require_ready(context)
        return document({"ready": True, "live": True})

    @routes.get("/models/<model>")
    @routes.get("/models/<model>/versions/<version>")
    def model_metadata(model: str, version: str | None = None) -> Response:
        manifest = find_model(context, model, version).predictor.manifest
        return document(v2.model_metadata(manifest, context.versions.numbers))

    @routes.get("/models/<model>/ready")
    @routes.get("/models/<model>/versions/<version>/ready")
    def model_ready(model: str, version: str | None = None) -> Response:
        find_model(context, model, version)
        require_ready(context)
        return document({"name": model, "ready": True})

    return routes


def v1_routes(context: ServiceContext) -> Blueprint:
    """Return TensorFlow Serving's routes of status and metadata."""
    routes = Blueprint("v1", __name__, url_prefix="/v1")

    @routes.get("/models/<model>")
    @routes.get("/models/<model>/versions/<version>")
    def status(model: str, version: str | None = None) -> Response:
        manifest = find_model(context, model, version).predictor.manifest
        versions = () if version else context.versions.numbers
        return document(tfserving.status(manifest, not context.metrics.shared.draining, versions))

    @routes.get("/models/<model>/metadata")
    @routes.get("/models/<model>/versions/<version>/metadata")
    def metadata(model: str, version: str | None = None) -> Response:
        return document(tfserving.metadata(find_model(context, model, version).predictor.manifest))

    return routes
