"""POST routes of predictions; PredictionPath carries their guards."""

from flask import Blueprint, Response, request

from service.web.context import ServiceContext, find_model
from service.web.replies import respond
from service.web.request_path import NATIVE, V1, V2, Protocol

PREDICTIONS = "predictions"
"""Name of the blueprint whose requests the hooks leave to PredictionPath."""


def prediction_routes(context: ServiceContext) -> Blueprint:
    """Return the routes of /predict, V2 infer and V1 predict."""
    routes = Blueprint(PREDICTIONS, __name__)

    def predict(protocol: Protocol, model: str, version: str | None) -> Response:
        return respond(
            *context.predict(request.environ, protocol, lambda: find_model(context, model, version))
        )

    @routes.post("/predict")
    def native_predict() -> Response:
        return respond(*context.predict(request.environ, NATIVE))

    @routes.post("/v2/models/<model>/infer")
    @routes.post("/v2/models/<model>/versions/<version>/infer")
    def v2_infer(model: str, version: str | None = None) -> Response:
        return predict(V2, model, version)

    @routes.post("/v1/models/<model>:predict")
    @routes.post("/v1/models/<model>/versions/<version>:predict")
    def v1_predict(model: str, version: str | None = None) -> Response:
        return predict(V1, model, version)

    return routes
