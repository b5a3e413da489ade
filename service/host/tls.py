"""The certificate and the private key for HTTPS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from service.settings import SettingsError


@dataclass(frozen=True)
class KeyPair:
    """Paths of a certificate and its private key, both in PEM."""

    certificate: Path
    """File with the certificate, followed by its chain."""
    key: Path
    """File with the private key, without a password."""


def check_key_pair(pair: KeyPair | None) -> None:
    """Check that a certificate and its key can be used; None, for plain HTTP, is valid.

    Raises:
        SettingsError: a file is not PEM, or the key has a password or does not match.
        OSError: a file cannot be read.
    """
    if pair is None:
        return
    for path in (pair.certificate, pair.key):
        path.open("rb").close()  # OpenSSL's error would not name the file
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password argument OpenSSL would prompt for one on the terminal.
        context.load_cert_chain(pair.certificate, pair.key, password="")
    except ssl.SSLError as error:
        reason = f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
        expected = f"expected a certificate and its key in PEM, the key without a password{reason}"
        raise SettingsError(f"{pair.certificate}, {pair.key}: {expected}") from None
