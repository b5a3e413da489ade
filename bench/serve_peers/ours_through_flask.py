"""The service as it is, with every request sent through Flask's own dispatch: what the thin one before it saves.

python ours_through_flask.py serve ARTIFACT ...
"""

from typing import Any

from service import __main__ as command

make = command._application


def unwrapped(*given: Any) -> Any:
    """Make the application inside a worker, and take away what stands before Flask."""
    app: Any = make(*given)
    app.wsgi_app = app.wsgi_app.flask
    return app


command._application = unwrapped  # type: ignore[assignment] # it takes whatever the other takes

if __name__ == "__main__":
    command.main(prog_name="python -m service")
