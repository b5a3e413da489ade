"""Tests of service.injected_variables: the variables of Kubernetes and Docker are recognised."""

import logging
from collections.abc import Iterator

import pytest

from service.injected_variables import is_injected, log_injected
from service.settings import HostSettings, ServiceSettings


def kubernetes(service: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that Kubernetes injects for a Service with a named and another port."""
    yield f"{service}_SERVICE_HOST", "10.96.0.7"
    yield f"{service}_SERVICE_PORT", "8000"
    yield f"{service}_SERVICE_PORT_HTTP", "8000"
    yield f"{service}_PORT", "tcp://10.96.0.7:8000"
    for port, protocol in ((8000, "tcp"), (53, "udp"), (7, "sctp")):
        prefix = f"{service}_PORT_{port}_{protocol.upper()}"
        yield prefix, f"{protocol}://10.96.0.7:{port}"
        yield f"{prefix}_PROTO", protocol
        yield f"{prefix}_PORT", str(port)
        yield f"{prefix}_ADDR", "10.96.0.7"


def docker(alias: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that `docker run --link` injects for a container of this image."""
    yield f"{alias}_NAME", f"/web/{alias.lower().replace('_', '-')}"
    yield f"{alias}_ENV_TWOLAYERNET_ARTIFACTS", "/artifacts"
    yield f"{alias}_ENV_TEXT", "two\nlines"
    yield f"{alias}_PORT", "tcp://172.17.0.5:8000"
    prefix = f"{alias}_PORT_8000_TCP"
    yield from {prefix: "tcp://172.17.0.5:8000", f"{prefix}_ADDR": "172.17.0.5"}.items()
    yield from {f"{prefix}_PORT_START": "8000", f"{prefix}_PORT_END": "8009"}.items()


@pytest.mark.parametrize("service", ["TWOLAYERNET", "TWOLAYERNET_QUEUE", "TWOLAYERNET_V2_8000"])
def test_injected_variables_set_nothing(
    service: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are the defaults, and one line of the log names the first variables."""
    variables = dict([*kubernetes(service), *docker(service)])
    assert ServiceSettings() == ServiceSettings.from_environment(variables)
    assert HostSettings() == HostSettings.from_environment(variables)
    log_injected(variables)
    names = sorted(variables)
    assert 1 == len(caplog.messages)
    assert f"'{names[0]}', '{names[1]}'" in caplog.messages[0]
    assert caplog.messages[0].endswith(f" and {len(names) - 3} more")
    assert logging.WARNING == caplog.records[0].levelno


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TWOLAYERNET_PORT", "8000"),
        ("TWOLAYERNET_HOST", "10.96.0.7"),
        ("TWOLAYERNET_NAME", "flowers"),
        ("TWOLAYERNET_TOKEN_FILE_NAME", "/run/tokens"),
        ("TWOLAYERNET_TOKEN_FILE", "/run/secrets/tokens"),
        ("TWOLAYERNET_QUEUE_PORT", "8000"),
        ("TWOLAYERNET_PORT_TCP", "tcp://10.96.0.7:8000"),
        ("TWOLAYERNET_SERVICE", "x"),
        ("OTHER_SERVICE_HOST", "10.96.0.7"),
    ],
)
def test_other_variables_are_not_injected(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting, or a name that nothing injects, is not ignored; nothing is logged."""
    assert not is_injected(name, value)
    log_injected({name: value})
    assert [] == caplog.messages
