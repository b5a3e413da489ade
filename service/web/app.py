"""create_app, which assembles the Flask application from its blueprints."""

from flask import Flask
from werkzeug.routing import BaseConverter

from service.observe.metrics import WorkerMetrics
from service.settings import ServiceSettings
from service.web.context import load_context
from service.web.hooks import register_hooks
from service.web.information_routes import documentation_routes, status_routes
from service.web.protocol_routes import prediction_routes, v1_routes, v2_routes
from service.web.request_path import Dispatch

BLUEPRINTS = (prediction_routes, v2_routes, v1_routes, status_routes, documentation_routes)


class PathSegment(BaseConverter):
    """A model's name or a version in a path, which ends before the colon of a verb."""

    regex = "[^/:]+"


def create_app(
    settings: ServiceSettings | None = None, metrics: WorkerMetrics | None = None
) -> Flask:
    """Return the application; a WSGI host calls this once per process.

    The artifact is loaded and checked here. If that fails the application still starts: it is
    alive, refuses predictions, and names the reason at /readyz.

    Args:
        settings: By default read from the environment.
        metrics: Counters of this worker; by default shared with no other worker.
    """
    context = load_context(
        settings or ServiceSettings.from_environment(), metrics or WorkerMetrics()
    )
    app = Flask(__name__, template_folder="pages", static_folder=None)
    app.url_map.converters["default"] = PathSegment
    app.url_map.merge_slashes = False
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint(context))
    register_hooks(app, context)
    dispatch = Dispatch(app.wsgi_app, context.predict, context.fast_routes)
    app.wsgi_app = dispatch  # type: ignore[method-assign] # as Flask's documentation wraps it
    return app
