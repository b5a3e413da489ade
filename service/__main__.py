"""`python -m service serve | score | check`: an artifact over HTTP, over a file, or looked at once."""

import ctypes
import dataclasses
import errno
import functools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from service import manifest
from service.manifest import ArtifactError
from service.settings import ServiceSettings, SettingsError

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

artifact_argument = click.argument("artifact", type=click.Path(path_type=Path))


class BadInput(click.ClickException):
    """What a person gave cannot be used."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C, as a shell reports it."""

    exit_code = 130


class Commands(click.Group):
    """A group of commands that end in one line and exit code 2 for bad input, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, turning the errors that a person can mend into their one line."""
        pressed: list[int] = []  # libraries swallow KeyboardInterrupt, or answer it with an error of their own

        def press(number: int, frame: object) -> None:
            pressed.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, press)
        try:
            return super().invoke(ctx)
        except (ArtifactError, SettingsError) as error:
            raise BadInput(str(error)) from None
        except OSError as error:
            raise BadInput(f"{error.filename or ctx.command_path}: {error.strerror or error}") from None
        except (Exception, KeyboardInterrupt) as error:
            if not pressed and not isinstance(error, KeyboardInterrupt):
                raise
            raise Interrupted("interrupted; nothing was written") from None
        finally:
            signal.signal(signal.SIGINT, before)


@click.group(cls=Commands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Serve a trained network; ARTIFACT is artifacts/NAME (its newest version) or artifacts/NAME/VERSION."""


@main.command()
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", envvar="TWOLAYERNET_HOST", help="Address; 0.0.0.0 for every interface.")
@click.option("--port", default=8000, envvar="TWOLAYERNET_PORT", type=click.IntRange(1, 65535))
@click.option("--workers", default=1, envvar="TWOLAYERNET_WORKERS", type=click.IntRange(min=1), help="Processes.")
@click.option("--expect-digest", help="Serve nothing but the artifact with this digest.")
@click.option(
    "--access-log/--no-access-log",
    default=sys.stdout.isatty,
    help="A line per request; default: on a terminal.",
)
def serve(
    artifact: Path | None, host: str, port: int, workers: int, expect_digest: str | None, access_log: bool
) -> None:
    """Answer POST /predict over HTTP; by default with the artifact that was published last."""
    settings = ServiceSettings.from_environment()
    chosen = manifest.find(artifact or settings.artifact or manifest.last_published(settings.artifacts))
    settings = dataclasses.replace(settings, artifact=chosen, expect_digest=expect_digest or settings.expect_digest)
    address = _free_address(host, port)
    # Until granian listens for it: a container's first process ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from granian import Granian
    from granian.constants import Interfaces
    from granian.log import LogLevels

    click.echo(f"serving {chosen} on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops)")
    server = Granian(
        "service.app:create_app",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=128,  # an upload that stalls holds one
        log_access=access_log,
        log_level=LogLevels.error,
        respawn_failed_workers=True,
        workers_kill_timeout=8,  # seconds for the requests in flight; `docker stop` kills after ten
    )
    server.serve(target_loader=functools.partial(_application, settings), wrap_loader=False)


@main.command()
@artifact_argument
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--keep", multiple=True, help="Column of SOURCE to carry through to DESTINATION; again for several.")
def score(artifact: Path, source: Path, destination: Path, keep: Sequence[str]) -> None:
    """Predict every row of SOURCE into DESTINATION (CSV or Parquet), streamed, columns matched by name."""
    try:
        from service import score as scoring
    except ModuleNotFoundError as error:
        raise SettingsError(f"score needs {error.name}: pip install 'twolayernet[score]'") from None
    try:
        scoring.run(artifact, source, destination, keep)
    except scoring.ScoreError as error:
        raise SettingsError(str(error)) from None


@main.command()
@artifact_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a line.")
def check(artifact: Path, as_json: bool) -> None:
    """Check that an artifact is whole and reproduces its golden rows on this machine.

    Exit code 0: it does; 1: it does not; 2: there is no artifact.
    """
    path, digest, error, code = artifact, None, None, 0
    try:
        path, code = manifest.find(artifact), 1
        from service import check as checking

        digest, code = checking.check(path).digest, 0
    except ArtifactError as failed:
        error, code = str(failed), code or 2
    if as_json:
        click.echo(json.dumps({"artifact": str(path), "holds": error is None, "digest": digest, "error": error}))
    elif error is None:
        click.echo(f"{path}: whole, and its golden rows are reproduced; digest {digest}")
    else:
        click.echo(f"Error: {error}", err=True)
    sys.exit(code)


def _application(settings: ServiceSettings) -> Callable[..., Any]:
    """Make the application inside a worker; the parent process stays small."""
    # A worker is forked: until granian installs its own, the parent's handlers would swallow what should end it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    from service.app import create_app

    return create_app(settings)


def _die_with_parent() -> None:
    """Ask Linux to end this worker when its parent is killed: an orphan would go on answering on the port."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between the two lines above
            os.kill(os.getpid(), signal.SIGTERM)


def _free_address(host: str, port: int) -> str:
    """Resolve host for granian, which takes no names, and see that the port is free: granian would share it.

    Raises:
        SettingsError: the host is not known here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise SettingsError(f"{host}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            what = "the port is taken" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise SettingsError(f"{host}:{port}: {what}; choose another with --port") from None
    return str(address[0])


if __name__ == "__main__":
    main(prog_name="python -m service")
