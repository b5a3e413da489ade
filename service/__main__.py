"""`python -m service serve | score | check`: an artifact over HTTP, over a file, or looked at once."""

import dataclasses
import functools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.artifact import storage
from service.artifact.manifest import ArtifactError
from service.host.cores import available_cores
from service.observe import logs
from service.observe.metrics import SharedMetrics, WorkerMetrics
from service.settings import HostSettings, ServiceSettings, SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SPARE_THREADS = 56
"""Of a worker, beyond those of the requests inside: for those at the door, and for whoever asks after its health."""

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
        pressed: list[
            int
        ] = []  # libraries swallow KeyboardInterrupt, or answer it with an error of their own

        def press(number: int, frame: object) -> None:
            pressed.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, press)
        try:
            return super().invoke(ctx)
        except (ArtifactError, SettingsError) as error:
            raise BadInput(str(error)) from None
        except OSError as error:
            raise BadInput(
                f"{error.filename or ctx.command_path}: {error.strerror or error}"
            ) from None
        except (Exception, KeyboardInterrupt) as error:
            if not pressed and not isinstance(error, KeyboardInterrupt):
                raise
            raise Interrupted("interrupted; nothing was written") from None
        finally:
            signal.signal(signal.SIGINT, before)


@click.group(cls=Commands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Serve a trained network; ARTIFACT is artifacts/NAME (its newest version) or artifacts/NAME/VERSION."""


def setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every setting; what is not given is looked for in the environment."""
    for kind in (HostSettings, ServiceSettings):
        for field in reversed(dataclasses.fields(kind)):
            if field.name == "artifact":  # the command's argument
                continue
            expected, flag = kind.kind(field.name), "--" + field.name.replace("_", "-")
            default = "" if field.default is None else f"  [default: {field.default}]"
            command = click.option(
                f"{flag}/--no-{flag[2:]}" if expected is bool else flag,
                field.name,
                default=None,
                type=click.Choice(expected) if isinstance(expected, tuple) else expected,
                help=field.metadata["help"] + default,
                show_default=False,
            )(command)
    return command


@main.command(epilog="Each is a variable too: --queue-seconds is TWOLAYERNET_QUEUE_SECONDS.")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@setting_flags
def serve(artifact: Path | None, **given: Any) -> None:
    """Answer predictions over HTTP; by default with the artifact that was published last."""
    settings = ServiceSettings.from_environment(artifact=artifact, **given)
    hosting = HostSettings.from_environment(**given)
    chosen = settings.artifact or storage.last_published(settings.artifacts)
    newest = storage.find_version(
        chosen
    )  # a mistyped path ends here, and a token file that cannot be read below
    settings.tokens()
    workers = hosting.workers or available_cores()
    access_log = sys.stderr.isatty() if settings.access_log is None else settings.access_log
    share = max(1, available_cores() // workers)
    in_flight = settings.in_flight or share
    settings = dataclasses.replace(
        settings, artifact=chosen, threads=settings.threads or share, in_flight=in_flight
    )
    # Until the host listens for it: a container's first process ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from service.host.sockets import listen
    from service.host.supervisor import Supervisor

    board = SharedMetrics(workers)
    server = Supervisor(
        listen(hosting.host, hosting.port, workers),
        threads=in_flight + settings.queue + SPARE_THREADS,
        draining=board.drain,
        ended=board.forget,
        drain_seconds=hosting.drain_seconds,
        certificate=hosting.tls_certificate,
        key=hosting.tls_key,
    )
    logs.configure(settings.log_format, access_log=access_log)
    scheme = "https" if hosting.tls_certificate else "http"
    host = f"[{hosting.host}]" if ":" in hosting.host else hosting.host
    click.echo(f"serving {newest} on {scheme}://{host}:{hosting.port} (Ctrl-C stops)")
    server.run(functools.partial(_application, settings, board))


@main.command()
@artifact_argument
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    multiple=True,
    help="Column of SOURCE to carry through to DESTINATION; again for several.",
)
def score(artifact: Path, source: Path, destination: Path, keep: Sequence[str]) -> None:
    """Predict every row of SOURCE into DESTINATION (CSV or Parquet), streamed, columns matched by name."""
    try:
        from service.commands import score
    except ModuleNotFoundError as error:
        raise SettingsError(f"score needs {error.name}: pip install 'twolayernet[score]'") from None
    try:
        score.score_file(artifact, source, destination, keep)
    except score.ScoreError as error:
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
        path, code = storage.find_version(artifact), 1
        from service.runtime import check

        digest, code = check.check_artifact(path).digest, 0
    except ArtifactError as failed:
        error, code = str(failed), code or 2
    if as_json:
        click.echo(
            json.dumps(
                {"artifact": str(path), "holds": error is None, "digest": digest, "error": error}
            )
        )
    elif error is None:
        click.echo(f"{path}: whole, and its golden rows are reproduced; digest {digest}")
    else:
        click.echo(f"Error: {error}", err=True)
    sys.exit(code)


def _application(settings: ServiceSettings, board: SharedMetrics, slot: int) -> "WSGIApplication":
    """Make the application inside a worker; the host's process stays small."""
    from service.web.app import create_app

    return create_app(settings, WorkerMetrics(board, slot))


if __name__ == "__main__":
    main(prog_name="python -m service")
