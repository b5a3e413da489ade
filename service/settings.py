"""Everything that can be set, by a flag of `serve` or from the environment: of the service, and of its host."""

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

PREFIX = "TWOLAYERNET_"
WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

Kind = type | tuple[str, ...]
"""int, float, bool, str or Path; or the words that may be chosen from."""


class SettingsError(ValueError):
    """A setting cannot be used; the message names it."""


def setting(default: Any, help: str, *, least: float = 0, most: float = 1 << 40) -> Any:  # noqa: A002 # click's word
    """Describe a field: its default, the line that `serve --help` shows, and the range of a number."""
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fields made by setting(); each is TWOLAYERNET_<FIELD> in the environment, and --<field> of `serve`."""

    def __post_init__(self) -> None:
        """Raise SettingsError where a value cannot be used."""
        for field in fields(self):
            name, value, limits = field.name, getattr(self, field.name), field.metadata
            if isinstance(value, int | float) and not limits["least"] <= value <= limits["most"]:
                raise SettingsError(
                    f"{name}: expected {limits['least']:g} to {limits['most']:g}, found {value:g}"
                )
            words = self.kind(name)
            if isinstance(words, tuple) and value not in words:
                raise SettingsError(f"{name}: expected one of {', '.join(words)}, found '{value}'")

    @classmethod
    def kind(cls, name: str) -> Kind:
        """Return what a field holds when it is set."""
        hint = get_type_hints(cls)[name]
        if get_origin(hint) is Literal:
            return get_args(hint)
        found: Kind = next((part for part in get_args(hint) if part is not type(None)), hint)
        return found

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> Self:
        """Read TWOLAYERNET_<FIELD> for every field; what is not set keeps its default.

        Args:
            environment: an empty variable is one that is not set.
            given: fields that stand above the environment, unless they are None.

        Raises:
            SettingsError: a value cannot be used.
        """
        names = [field.name for field in fields(cls)]
        found = {name: given[name] for name in names if given.get(name) is not None}
        for name in names:
            variable = PREFIX + name.upper()
            if (text := environment.get(variable)) and name not in found:
                found[name] = _parsed(variable, text, cls.kind(name))
        return cls(**found)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(Settings):
    """What an operator chooses of the application, whatever its host."""

    artifact: Path | None = setting(
        None, "artifacts/<name>, followed, or artifacts/<name>/<version>, pinned."
    )
    artifacts: Path = setting(
        Path("artifacts"), "Where the artifact that was published last is looked for."
    )
    expect_digest: str | None = setting(None, "Serve nothing but the artifact with this digest.")
    poll_seconds: float = setting(
        2.0, "Between two looks for a new version.", least=0.05, most=86400
    )
    threads: int | None = setting(
        None, "Of one inference; by default cores // workers.", least=1, most=1024
    )
    max_body_bytes: int = setting(
        16 << 20, "Of a request's body, and of what it decompresses to.", least=1
    )
    max_rows: int = setting(1 << 16, "Of one request.", least=1)
    max_elements: int = setting(1 << 22, "Numbers in one request: rows times features.", least=1)
    in_flight: int | None = setting(
        None,
        "Requests that compute at a time, in one worker; by default cores // workers.",
        least=1,
        most=1024,
    )
    queue: int = setting(
        64, "Requests that are read or wait before those; one more is answered 503.", most=4096
    )
    queue_seconds: float = setting(
        1.0, "The longest wait inside; 503 after it.", least=0.001, most=3600
    )
    batching: Literal["auto", "on", "off"] = setting(
        "auto",
        "Join the rows of requests that wait; auto: for networks of a mebibyte of weights or more.",
    )
    batch_rows: int = setting(256, "Joined at most.", least=1)
    batch_wait_ms: float = setting(0.0, "The first waits so long for company.", most=10_000)
    token_file: Path | None = setting(
        None, "Answer only those who show a token of this file, one a line."
    )
    cors_origins: str | None = setting(
        None, "Pages that may ask: https://a.example,https://b.example, or *."
    )
    access_log: bool | None = setting(None, "A line per request; by default on a terminal.")
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", "auto: text on a terminal, JSON elsewhere."
    )

    def __post_init__(self) -> None:
        """Raise SettingsError where a value cannot be used."""
        super().__post_init__()
        if self.expect_digest is not None and not re.fullmatch(r"[0-9a-f]{64}", self.expect_digest):
            raise SettingsError(
                f"expect_digest: expected 64 lower-case hex digits, found '{self.expect_digest}'"
            )
        if self.batch_wait_ms >= self.queue_seconds * 1000:
            raise SettingsError(
                f"batch_wait_ms: expected less than queue_seconds, found {self.batch_wait_ms:g} ms"
            )
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s,]+", origin):
                raise SettingsError(
                    f"cors_origins: expected https://<host>, or *, found '{origin}'"
                )

    @property
    def origins(self) -> tuple[str, ...]:
        """cors_origins, taken apart."""
        return tuple(
            origin.strip() for origin in (self.cors_origins or "").split(",") if origin.strip()
        )

    def tokens(self) -> tuple[bytes, ...]:
        """Read token_file: a token a line; empty lines and those that begin with # do not count. None without a file.

        Raises:
            SettingsError: the file is not readable, or holds none.
        """
        if self.token_file is None:
            return ()
        try:
            lines = [line.strip() for line in self.token_file.read_text("ascii").splitlines()]
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "expected ASCII text"
            raise SettingsError(f"token_file: {self.token_file}: {why}") from None
        found = tuple(line.encode() for line in lines if line and not line.startswith("#"))
        if not found:
            raise SettingsError(
                f"token_file: {self.token_file}: expected a token on a line of its own, found none"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class HostSettings(Settings):
    """What an operator chooses of the host that `serve` starts."""

    host: str = setting("127.0.0.1", "Address; 0.0.0.0 for every interface.")
    port: int = setting(8000, "Of TCP.", least=1, most=65535)
    workers: int | None = setting(None, "Processes; by default one per core.", least=1, most=1024)
    drain_seconds: float = setting(
        2.0, "From SIGTERM, not ready and still answering, to the stop.", most=3600
    )
    tls_certificate: Path | None = setting(None, "PEM, with its chain: answer HTTPS.")
    tls_key: Path | None = setting(None, "Its key, PEM.")

    def __post_init__(self) -> None:
        """Raise SettingsError where a value cannot be used."""
        super().__post_init__()
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key: expected both or neither, found one")


def _parsed(variable: str, text: str, expected: Kind) -> Any:
    """Return the text of a variable as a value of its kind."""
    if expected is bool:
        if text.lower() not in WORDS:
            raise SettingsError(f"{variable}: expected true or false, found '{text}'")
        return WORDS[text.lower()]
    if expected is int:
        if not (text.isascii() and text.isdecimal()):
            raise SettingsError(f"{variable}: expected a whole number, found '{text}'")
        return int(text)
    if expected is float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text, re.ASCII):
            raise SettingsError(f"{variable}: expected a number, found '{text}'")
        return float(text)
    return Path(text) if expected is Path else text
