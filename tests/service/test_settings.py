"""service.settings: by flag or from the environment, or one line that names the setting."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
import pytest

from service.commands.serve import serve
from service.settings import PREFIX, HostSettings, ServiceSettings, Settings, SettingsError
from tests.serving import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
FIELDS = [
    (kind, field) for kind in (ServiceSettings, HostSettings) for field in dataclasses.fields(kind)
]


def example(kind: type[Settings], name: str) -> tuple[str, Any]:
    """Return a text for a setting that is not its default, and the value that it stands for."""
    expected = kind.kind(name)
    if isinstance(expected, tuple):
        return expected[-1], expected[-1]
    known: dict[str, tuple[str, Any]] = {
        "expect_digest": ("0f" * 32, "0f" * 32),
        "cors_origins": ("https://a.example", "https://a.example"),
    }
    by_kind: dict[object, tuple[str, Any]] = {
        int: ("7", 7),
        float: ("2.5", 2.5),
        bool: ("true", True),
        Path: ("a/b", Path("a/b")),
        str: ("elsewhere", "elsewhere"),
    }
    return known.get(name, by_kind[expected])


@pytest.mark.parametrize("kind", [ServiceSettings, HostSettings])
def test_environment_sets_every_field(kind: type[Settings]) -> None:
    """TWOLAYERNET_<FIELD> in its own type; an empty variable is one that is not set; what is given stands above."""
    examples = {field.name: example(kind, field.name) for field in dataclasses.fields(kind)}
    variables = {PREFIX + name.upper(): text for name, (text, _) in examples.items()}
    assert kind(**{name: value for name, (_, value) in examples.items()}) == kind.from_environment(
        variables
    )
    assert kind() == kind.from_environment(dict.fromkeys(variables, ""))
    whole = next(field.name for field in dataclasses.fields(kind) if kind.kind(field.name) is int)
    assert 9 == getattr(kind.from_environment(variables, **{whole: 9}), whole)


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[field.name for _, field in FIELDS])
def test_every_setting_is_a_flag_and_documented(
    kind: type[Settings], field: "dataclasses.Field[Any]"
) -> None:
    """`serve` has --<field>, and docs/operations.md a line with its variable, its default and what `--help` says."""
    options = [option for parameter in serve.params for option in parameter.opts]
    flag = "--" + field.name.replace("_", "-")
    assert field.name == "artifact" or flag in options
    line = next(
        line
        for line in OPERATIONS.splitlines()
        if line.startswith(f"| `{PREFIX}{field.name.upper()}` |")
    )
    assert field.metadata["help"].rstrip(".").split(";")[0].split(":")[0] in line.replace("`", "")
    default = field.default
    assert default is None or f"| {default} |" in line.replace("`", "")


def test_every_flag_is_a_setting() -> None:
    """`serve` has no option that the environment lacks."""
    names = {field.name for _, field in FIELDS}
    options = [parameter for parameter in serve.params if isinstance(parameter, click.Option)]
    assert set() == {str(option.name) for option in options} - names


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("THREADS", "two", "TWOLAYERNET_THREADS: expected a whole number, found 'two'"),
        ("THREADS", "0", "threads: expected 1 to 1024, found 0"),
        ("EXPECT_DIGEST", "NOPE", "expect_digest: expected 64 lower-case hex digits, found 'NOPE'"),
        ("MAX_BODY_BYTES", "-1", "TWOLAYERNET_MAX_BODY_BYTES: expected a whole number, found '-1'"),
        ("QUEUE_SECONDS", "1e3", "TWOLAYERNET_QUEUE_SECONDS: expected a number, found '1e3'"),
        ("QUEUE_SECONDS", "nan", "TWOLAYERNET_QUEUE_SECONDS: expected a number, found 'nan'"),
        ("BATCHING", "maybe", "batching: expected one of auto, on, off, found 'maybe'"),
        ("ACCESS_LOG", "maybe", "TWOLAYERNET_ACCESS_LOG: expected true or false, found 'maybe'"),
        ("BATCH_WAIT_MS", "1000", "batch_wait_ms: expected less than queue_seconds, found 1000 ms"),
        (
            "CORS_ORIGINS",
            "a.example",
            "cors_origins: expected https://<host>, or *, found 'a.example'",
        ),
    ],
)
def test_wrong_value(name: str, value: str, message: str) -> None:
    """A value that cannot be used is named, with what was expected and found."""
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        ServiceSettings.from_environment({PREFIX + name: value})


def test_certificate_and_key_go_together() -> None:
    """One of the two is a mistake, not plain HTTP."""
    with pytest.raises(
        SettingsError, match=r"^tls_certificate and tls_key: expected both or neither, found one$"
    ):
        HostSettings(tls_certificate=Path("a.pem"))
