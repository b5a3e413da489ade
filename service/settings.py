"""Settings of the application and the host, read from flags of `serve` or the environment."""

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from service.injected_variables import PREFIX, is_injected
from tabular.names import near_miss

TRUE_WORDS, FALSE_WORDS = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

Kind = type | tuple[str, ...]
"""Type of a setting: int, float, bool, str or Path, or the allowed words."""


class SettingsError(ValueError):
    """An invalid setting; the message names it."""


def setting(default: Any, help: str, *, minimum: float = 0, maximum: float = 1 << 40) -> Any:  # noqa: A002 # click's name
    """Declare a field with its default, its help text, and its range if it is a number."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fields declared with setting(); an invalid value raises SettingsError."""

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
            if isinstance(value, int | float) and not minimum <= value <= maximum:
                limits = f"{minimum:.15g} to {maximum:.15g}"
                raise SettingsError(f"{name}: expected {limits}, found {value:.15g}")
            words = self.kind(name)
            if isinstance(words, tuple) and value not in words:
                raise SettingsError(f"{name}: expected one of {', '.join(words)}, found '{value}'")

    @classmethod
    def kind(cls, name: str) -> Kind:
        """Return the type of a field; for a field of type X | None, return X."""
        hint = get_type_hints(cls)[name]
        if get_origin(hint) is Literal:
            return get_args(hint)
        kind: Kind = next((part for part in get_args(hint) if part is not type(None)), hint)
        return kind

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **flags: Any) -> Self:
        """Read each field from the variable TWOLAYERNET_<FIELD>, or use the default of the field.

        Args:
            environment: variables by name; empty and injected ones count as not set.
            flags: values by field; they take precedence unless they are None.

        Raises:
            SettingsError: a value is invalid, or no setting has the name of a variable.
        """
        _reject_unknown_variables(environment)
        values = {}
        for field in fields(cls):
            variable = PREFIX + field.name.upper()
            if flags.get(field.name) is not None:
                values[field.name] = flags[field.name]
            elif (text := environment.get(variable)) and not is_injected(variable, text):
                values[field.name] = _parse(variable, text, cls.kind(field.name))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(Settings):
    """Settings of the application, which apply under any WSGI host."""

    artifact: Path | None = setting(
        None,
        "Artifact to serve: artifacts/<name> (its newest version) or artifacts/<name>/<version>.",
    )
    artifacts: Path = setting(
        Path("artifacts"), "Folder of artifacts; if it holds only one, that one is the default."
    )
    expect_digest: str | None = setting(
        None, "Digest that the artifact must have: 64 lower-case hex digits."
    )
    poll_seconds: float = setting(
        2.0, "Time between checks for a new version, in seconds.", minimum=0.05, maximum=86400
    )
    allow_schema_change: bool = setting(
        False, "Allow a new version with different features, targets, task or classes."
    )
    threads: int | None = setting(
        None, "Number of threads per run; cores / workers by default.", minimum=1, maximum=1024
    )
    max_body_bytes: int = setting(
        16 << 20, "Maximum size of a request body in bytes, after decompression too.", minimum=1
    )
    memory_bytes: int | None = setting(
        None,
        "Memory for the requests of one worker in bytes; by default half of the memory limit / "
        "workers, at most 1 GiB.",
        minimum=1 << 20,
    )
    slow_uploads: int = setting(
        32,
        "Maximum number of slow uploads in a worker; beyond it, the slowest is closed.",
        minimum=1,
        maximum=1024,
    )
    upload_grace_seconds: float = setting(
        5.0,
        "Time that each 16 KiB of an upload may take beyond the minimum rate, in seconds.",
        minimum=0.1,
        maximum=3600,
    )
    min_upload_bytes_per_second: float = setting(
        500.0, "Minimum rate of an upload in bytes per second.", minimum=1
    )
    upload_seconds: float = setting(
        300.0, "Maximum time of an upload, in seconds.", minimum=0.1, maximum=86400
    )
    max_rows: int = setting(1 << 16, "Maximum number of rows in one request.", minimum=1)
    max_elements: int = setting(
        1 << 22, "Maximum number of values (rows times features) in one request.", minimum=1
    )
    in_flight: int | None = setting(
        None,
        "Maximum number of requests that a worker runs at once; cores / workers by default.",
        minimum=1,
        maximum=1024,
    )
    queue: int = setting(
        64, "Maximum number of further requests in a worker; others get status 503.", maximum=4096
    )
    queue_seconds: float = setting(
        1.0,
        "Maximum time that a request waits in the queue, in seconds; then it gets status 503.",
        minimum=0.001,
        maximum=3600,
    )
    batching: Literal["auto", "on", "off"] = setting(
        "auto", "Run waiting requests in batches; auto: only if the weights have 1 MiB or more."
    )
    batch_rows: int = setting(256, "Maximum number of rows in one batch.", minimum=1)
    batch_wait_ms: float = setting(
        0.0, "Maximum time to hold a request while a batch fills, in milliseconds.", maximum=10_000
    )
    token_file: Path | None = setting(
        None, "File with one access token per line; by default clients need no token."
    )
    cors_origins: str | None = setting(
        None, "Origins allowed by CORS, such as https://a.example,https://b.example, or * for all."
    )
    access_log: bool | None = setting(
        None, "Log a line for each request; by default only if stderr is a terminal."
    )
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", "Format of the log; auto: text if stderr is a terminal, JSON otherwise."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expect_digest is not None and not re.fullmatch(r"[0-9a-f]{64}", self.expect_digest):
            problem = f"expected 64 lower-case hex digits, found '{self.expect_digest}'"
            raise SettingsError(f"expect_digest: {problem}")
        if self.batch_wait_ms >= self.queue_seconds * 1000:
            problem = f"expected less than queue_seconds, found {self.batch_wait_ms:g} ms"
            raise SettingsError(f"batch_wait_ms: {problem}")
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s,]+", origin):
                raise SettingsError(f"cors_origins: expected https://<host> or *, found '{origin}'")

    @property
    def origins(self) -> tuple[str, ...]:
        """Allowed origins, parsed from cors_origins."""
        return tuple(filter(None, map(str.strip, (self.cors_origins or "").split(","))))

    def tokens(self) -> tuple[bytes, ...]:
        """Return the tokens in token_file, or () without a file; skip empty lines and comments (#).

        Raises:
            SettingsError: the file is not readable or contains no token.
        """
        if self.token_file is None:
            return ()
        try:
            lines = [line.strip() for line in self.token_file.read_text("ascii").splitlines()]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "expected ASCII text"
            raise SettingsError(f"token_file: {self.token_file}: {reason}") from None
        tokens = tuple(line.encode() for line in lines if line and not line.startswith("#"))
        if not tokens:
            raise SettingsError(f"token_file: {self.token_file}: expected tokens, found none")
        return tokens


@dataclass(frozen=True, kw_only=True)
class HostSettings(Settings):
    """Settings of the WSGI host that `serve` starts."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all IPv4 interfaces.")
    port: int = setting(8000, "TCP port to listen on.", minimum=1, maximum=65535)
    workers: int | None = setting(
        None, "Number of worker processes; by default one per core.", minimum=1, maximum=1024
    )
    drain_seconds: float = setting(
        2.0, "Time in seconds from SIGTERM to shutdown, in which /readyz returns 503.", maximum=3600
    )
    hang_seconds: float = setting(
        30.0,
        "Time in seconds without a heartbeat after which a worker is killed and replaced.",
        minimum=0.5,
        maximum=86400,
    )
    send_seconds: float = setting(
        30.0,
        "Time in seconds after which a connection is closed if its client reads no more; only on "
        "Linux.",
        minimum=1,
        maximum=86400,
    )
    tls_certificate: Path | None = setting(
        None, "PEM file with the certificate and its chain; enables HTTPS."
    )
    tls_key: Path | None = setting(None, "PEM file with the private key of the certificate.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key: expected both or neither, found one")


def _reject_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raise SettingsError if a variable begins with PREFIX but is neither a setting nor injected.

    Ignoring a misspelt name could be dangerous: without a token file, clients need no token.
    """
    known = {
        field.name.upper() for kind in (ServiceSettings, HostSettings) for field in fields(kind)
    }
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known and not is_injected(variable, text):
            # Names are compared without the prefix, which would make all of them similar.
            suggestion = near_miss(name, known).replace("'", f"'{PREFIX}", 1)
            problem = f"no setting has this name{suggestion}; correct the variable or unset it"
            raise SettingsError(f"{variable}: {problem}")


def _parse(variable: str, text: str, kind: Kind) -> Any:
    if kind is bool:
        if text.lower() not in TRUE_WORDS + FALSE_WORDS:
            raise SettingsError(f"{variable}: expected true or false, found '{text}'")
        return text.lower() in TRUE_WORDS
    if kind is int:
        if not (text.isascii() and text.isdecimal()):
            raise SettingsError(f"{variable}: expected a whole number, found '{text}'")
        return int(text)
    if kind is float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text, re.ASCII):
            raise SettingsError(f"{variable}: expected a number, found '{text}'")
        return float(text)
    return Path(text) if kind is Path else text
