"""ServiceSettings: everything that can be set, from flags or from the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "TWOLAYERNET_"


class SettingsError(ValueError):
    """A setting cannot be used; the message names it."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What an operator chooses; each field is TWOLAYERNET_<FIELD> in the environment."""

    artifact: Path | None = None
    """artifacts/<name>/<version>, or artifacts/<name> for its newest; by default the last one published."""
    artifacts: Path = Path("artifacts")
    """Where the default artifact is looked for."""
    expect_digest: str | None = None
    """Serve nothing but the artifact with this digest."""
    threads: int = 1
    """Threads of one inference; one is the fastest for a small network."""
    max_body_bytes: int = 16 << 20
    """A larger request body is refused with 413."""

    def __post_init__(self) -> None:
        """Raise SettingsError where a value cannot be used."""
        for name, most in (("threads", 1024), ("max_body_bytes", 1 << 40)):
            if not 1 <= getattr(self, name) <= most:
                raise SettingsError(f"{name}: expected 1 to {most}, found {getattr(self, name)}")
        if self.expect_digest is not None and not re.fullmatch(r"[0-9a-f]{64}", self.expect_digest):
            raise SettingsError(f"expect_digest: expected 64 lower-case hex digits, found '{self.expect_digest}'")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "ServiceSettings":
        """Read TWOLAYERNET_ARTIFACT and its like; what is not set keeps its default.

        Raises:
            SettingsError: a value cannot be used.
        """
        found: dict[str, str | int | Path] = {}
        for field in fields(cls):
            text = environment.get(PREFIX + field.name.upper())
            if not text:
                continue
            if field.name in ("threads", "max_body_bytes"):
                if not text.isdecimal():
                    name = PREFIX + field.name.upper()
                    raise SettingsError(f"{name}: expected a whole number, found '{text}'")
                found[field.name] = int(text)
            else:
                found[field.name] = text if field.name == "expect_digest" else Path(text)
        return cls(**found)  # type: ignore[arg-type] # the loop above gives each field its own type
