"""Environment variables that Kubernetes and Docker inject for a service, which are not settings.

For each Service, Kubernetes adds variables to the containers of its namespace, unless the pod has
`enableServiceLinks: false`; Docker adds similar ones for `--link`. If the Service is named
twolayernet, TWOLAYERNET_PORT is its address, tcp://10.0.0.1:8000, and not a setting.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
https://docs.docker.com/engine/network/links/
"""

import logging
import os
import re
from collections.abc import Mapping

from tabular.names import quote_names

PREFIX = "TWOLAYERNET_"
"""Prefix of the names of settings, and of variables for a service named twolayernet[-...]."""
MAX_LISTED_NAMES = 3
"""Maximum number of variables that the log line names."""
_INJECTED = re.compile(
    r"(?P<service>TWOLAYERNET(_\w+)?)_("
    r"SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|"
    r"PORT=(TCP|UDP|SCTP)://.*|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z_]+)?=.*|"
    r"NAME=/[^/]+/(?P=service)|ENV_\w+=.*)",
    re.ASCII | re.DOTALL,
)
"""Matches <name>=<value>, the value in the upper case and with the underscores of names.

The values are part of the forms: TWOLAYERNET_TOKEN_FILE_NAME=/run/tokens is a misspelt setting, and
the container `twolayernet`, linked to the container `web`, is TWOLAYERNET_NAME=/web/twolayernet.
"""
log = logging.getLogger(__name__)


def is_injected(name: str, value: str) -> bool:
    """Return whether a variable has the form of those that Kubernetes and Docker inject."""
    return _INJECTED.fullmatch(f"{name}={value.upper().replace('-', '_')}") is not None


def log_injected(environment: Mapping[str, str] = os.environ) -> None:
    """Log one line that names the injected variables, if there are any; configure logging first."""
    if names := sorted(name for name, value in environment.items() if is_injected(name, value)):
        # A host such as gunicorn shows no lines below this level.
        log.warning(
            "ignored variables that Kubernetes or Docker injects for a service of this name: %s",
            quote_names(names, MAX_LISTED_NAMES),
        )
