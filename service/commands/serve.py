"""The command `serve`, which reads the settings and starts the host and its workers."""

import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import click

from cli.cores import available_cores
from service.artifact import storage
from service.host.memory import available_memory, default_memory_bytes
from service.host.tls import KeyPair, check_key_pair
from service.injected_variables import log_injected
from service.observe import logs
from service.observe.metrics import SharedMetrics, WorkerMetrics
from service.runtime.request_memory import log_small_budget
from service.runtime.served_schema import ServedSchema
from service.settings import HostSettings, ServiceSettings

SPARE_THREADS = 24
"""Number of extra threads per worker, to reject requests and to answer health probes.

Some of them may send large replies or wait for late bodies. Measured under overload: 72 threads
more, which compete for the interpreter, reduce the goodput by a quarter.
"""


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every setting to a command; the value of an omitted option is None."""
    for settings in (ServiceSettings, HostSettings):
        for field in reversed(fields(settings)):
            if field.name == "artifact":  # an argument of the command
                continue
            kind, flag = settings.kind(field.name), "--" + field.name.replace("_", "-")
            default = "" if field.default is None else f"  [default: {field.default}]"
            command = click.option(
                f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
                field.name,
                default=None,
                type=click.Choice(kind) if isinstance(kind, tuple) else kind,
                help=field.metadata["help"] + default,
                show_default=False,
            )(command)
    return command


@click.command(
    epilog="Each option is also an environment variable: --queue-seconds is "
    "TWOLAYERNET_QUEUE_SECONDS. An option overrides its variable."
)
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@setting_options
def serve(artifact: Path | None, **options: Any) -> None:
    """Serve predictions over HTTP until SIGTERM or Ctrl-C.

    ARTIFACT is artifacts/NAME, to follow its newest version, or artifacts/NAME/VERSION. It may be
    omitted if artifacts/ holds only one NAME.
    """
    settings = ServiceSettings.from_environment(artifact=artifact, **options)
    hosting = HostSettings.from_environment(**options)
    artifact = settings.artifact or storage.only_artifact(settings.artifacts)
    # A bad path or token file ends the command here, before any worker starts.
    version = storage.find_version(artifact)
    settings.tokens()
    workers = hosting.workers or available_cores()
    cores_per_worker = max(1, available_cores() // workers)
    in_flight = settings.in_flight or cores_per_worker
    threads = settings.threads or cores_per_worker
    settings = replace(
        settings,
        artifact=artifact,
        threads=threads,
        in_flight=in_flight,
        memory_bytes=settings.memory_bytes or default_memory_bytes(workers, available_memory()),
    )
    # Process 1 of a container ignores a signal without a handler, and the supervisor installs its
    # own handlers only when it runs.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    request_threads = in_flight + settings.queue + settings.slow_uploads + SPARE_THREADS
    _run_host(settings, hosting, workers, request_threads, version)


def _run_host(
    settings: ServiceSettings, hosting: HostSettings, workers: int, threads: int, version: Path
) -> None:
    from service.host.granian_adapter import GranianWorkers, retire  # not needed by --help
    from service.host.heartbeat import Heartbeats
    from service.host.sockets import listen
    from service.host.supervisor import Supervisor

    key_pair = None
    if hosting.tls_certificate and hosting.tls_key:
        key_pair = KeyPair(hosting.tls_certificate, hosting.tls_key)
    check_key_pair(key_pair)
    metrics, schema = SharedMetrics(workers), ServedSchema()
    heartbeats = Heartbeats(metrics.rows)
    listeners = listen(hosting.host, hosting.port, workers, hosting.send_seconds)

    def load(row: int) -> WSGIApplication:
        from service.web.app import create_app  # only in workers, to save memory in the supervisor

        return create_app(settings, WorkerMetrics(metrics, row), schema)

    def retire_worker(row: int, process: BaseProcess) -> None:
        metrics.close_connections(row)
        retire(process)

    def check_reload() -> None:
        settings.tokens()
        check_key_pair(key_pair)
        storage.find_version(settings.artifact or storage.only_artifact(settings.artifacts))

    granian = GranianWorkers(
        listeners,
        load,
        heartbeats,
        threads=threads,
        key_pair=key_pair,
        is_ready=metrics.is_ready,
        hang_seconds=hosting.hang_seconds,
    )
    supervisor = Supervisor(
        listeners,
        granian.start,
        heartbeats,
        retire_worker=retire_worker,
        on_drain=metrics.drain,
        on_worker_exit=metrics.forget,
        check_reload=check_reload,
        drain_seconds=hosting.drain_seconds,
        retire_seconds=settings.upload_seconds,
        hang_seconds=hosting.hang_seconds,
    )
    access_log = sys.stderr.isatty() if settings.access_log is None else settings.access_log
    logs.configure(settings.log_format, access_log=access_log)
    log_injected()
    log_small_budget(settings.memory_bytes or 0, settings.max_body_bytes)
    scheme = "https" if key_pair else "http"
    host = f"[{hosting.host}]" if ":" in hosting.host else hosting.host
    click.echo(f"serving {version} on {scheme}://{host}:{hosting.port} (Ctrl-C stops)")
    supervisor.run()
