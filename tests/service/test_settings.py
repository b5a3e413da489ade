"""Tests of service.settings: values from flags and the environment, and error messages."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
import pytest

from service.commands.serve import serve
from service.injected_variables import PREFIX
from service.settings import HostSettings, ServiceSettings, Settings, SettingsError
from tests.serving import ROOT

FIELDS = [
    (kind, field) for kind in (ServiceSettings, HostSettings) for field in dataclasses.fields(kind)
]
TEXTS: dict[object, tuple[str, Any]] = {
    "expect_digest": ("0f" * 32, "0f" * 32),
    "cors_origins": ("https://a.example", "https://a.example"),
    "memory_bytes": ("7000000", 7_000_000),
    int: ("7", 7),
    float: ("2.5", 2.5),
    bool: ("true", True),
    Path: ("a/b", Path("a/b")),
    str: ("elsewhere", "elsewhere"),
}
"""Text of the environment variable and the expected value, by setting or by type."""


@pytest.mark.parametrize("kind", [ServiceSettings, HostSettings])
def test_environment_sets_every_field(kind: type[Settings]) -> None:
    """Each variable is converted to its type; empty ones are ignored; flags take precedence."""
    texts = {}
    for field in dataclasses.fields(kind):
        expected = kind.kind(field.name)
        choice = (expected[-1], expected[-1]) if isinstance(expected, tuple) else TEXTS[expected]
        texts[field.name] = TEXTS.get(field.name, choice)
    variables = {PREFIX + name.upper(): text for name, (text, _) in texts.items()}
    values = {name: value for name, (_, value) in texts.items()}
    assert kind(**values) == kind.from_environment(variables)
    assert kind() == kind.from_environment(dict.fromkeys(variables, ""))
    flag = next(name for name, value in values.items() if value == 7)
    assert kind(**values | {flag: 9}) == kind.from_environment(variables, **{flag: 9})


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[field.name for _, field in FIELDS])
def test_every_setting_is_documented(kind: type[Settings], field: "dataclasses.Field[Any]") -> None:
    """docs/operations.md has a row with the variable, the default and the help of the setting."""
    default = "" if field.default is None else str(field.default)
    row = f"| {PREFIX}{field.name.upper()} | {default} | {field.metadata['help']} |"
    assert row in (ROOT / "docs" / "operations.md").read_text().replace("`", "")


def test_settings_are_the_flags_of_serve() -> None:
    """`serve` has exactly one flag for each setting except the artifact, which is an argument."""
    parameters = serve.params
    flags = [parameter.opts[0] for parameter in parameters if isinstance(parameter, click.Option)]
    names = {field.name.replace("_", "-") for _, field in FIELDS} - {"artifact"}
    assert sorted(f"--{name}" for name in names) == sorted(flags)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("THREADS", "two", "TWOLAYERNET_THREADS: expected a whole number, found 'two'"),
        ("THREADS", "0", "threads: expected 1 to 1024, found 0"),
        ("MEMORY_BYTES", "1", "memory_bytes: expected 1048576 to 1099511627776, found 1"),
        ("EXPECT_DIGEST", "NOPE", "expect_digest: expected 64 lower-case hex digits, found 'NOPE'"),
        ("QUEUE_SECONDS", "1e3", "TWOLAYERNET_QUEUE_SECONDS: expected a number, found '1e3'"),
        ("BATCHING", "maybe", "batching: expected one of auto, on, off, found 'maybe'"),
        ("ACCESS_LOG", "maybe", "TWOLAYERNET_ACCESS_LOG: expected true or false, found 'maybe'"),
        ("BATCH_WAIT_MS", "1000", "batch_wait_ms: expected less than queue_seconds, found 1000 ms"),
        ("CORS_ORIGINS", "a", "cors_origins: expected https://<host> or *, found 'a'"),
    ],
)
def test_wrong_value_is_rejected(name: str, value: str, problem: str) -> None:
    """The message names the setting, the expected value and the actual value."""
    with pytest.raises(SettingsError, match=f"^{re.escape(problem)}$"):
        ServiceSettings.from_environment({PREFIX + name: value})


@pytest.mark.parametrize("kind", [ServiceSettings, HostSettings])
@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("TOKENFILE", " (did you mean 'TWOLAYERNET_TOKEN_FILE'?)"),
        ("token_file", " (did you mean 'TWOLAYERNET_TOKEN_FILE'?)"),
        ("TOKEN_FILES", " (did you mean 'TWOLAYERNET_TOKEN_FILE'?)"),
        ("PROT", " (did you mean 'TWOLAYERNET_PORT'?)"),
        ("XYZ", ""),
        ("", ""),
    ],
)
def test_unknown_variable_is_rejected(kind: type[Settings], name: str, suggestion: str) -> None:
    """A variable that sets nothing is an error, even if empty; its value may be a secret."""
    for text in ("secret", ""):
        problem = f"no setting has this name{suggestion}; correct the variable or unset it"
        with pytest.raises(SettingsError, match=f"^{re.escape(f'{PREFIX}{name}: {problem}')}$"):
            kind.from_environment({PREFIX + name: text})
    assert kind() == kind.from_environment({f"_{PREFIX}COMPLETE": "bash_complete", "OTHER": "1"})


def test_address_of_a_service_is_not_the_port() -> None:
    """The port is the default if Kubernetes sets its variable; another text remains an error."""
    port = f"{PREFIX}PORT"
    assert 8000 == HostSettings.from_environment({port: "tcp://10.0.0.1:9000"}).port
    assert 9000 == HostSettings.from_environment({port: "9000"}).port
    with pytest.raises(SettingsError, match="TWOLAYERNET_PORT: expected a whole number"):
        HostSettings.from_environment({port: "http://10.0.0.1:9000"})


def test_certificate_without_key_is_rejected() -> None:
    """A certificate alone must not result in plain HTTP."""
    with pytest.raises(SettingsError, match=r"^tls_certificate and tls_key: expected both or"):
        HostSettings(tls_certificate=Path("a.pem"))
