"""Tests of service.host.tls: the check of a certificate and its key."""

import re
from pathlib import Path

import pytest

from service.host.tls import KeyPair, check_key_pair
from service.settings import SettingsError
from tests.service.host.certificates import create_certificate


def test_check_key_pair(tmp_path: Path) -> None:
    """A pair is accepted; missing, invalid or mismatched files give an error that names them."""
    pair, other = create_certificate(tmp_path, "a"), create_certificate(tmp_path, "b")
    check_key_pair(pair)
    check_key_pair(None)
    text = tmp_path / "text.pem"
    text.write_text("hello")
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        check_key_pair(KeyPair(tmp_path / "missing.pem", pair.key))
    mismatched, reverse = (pair.certificate, other.key), (pair.key, pair.certificate)
    for files in (mismatched, (text, pair.key), (pair.certificate, text), reverse):
        expected = "expected a certificate and its key in PEM, the key without a password"
        message = rf"^{re.escape(f'{files[0]}, {files[1]}')}: {expected}( \(.+\))?$"
        with pytest.raises(SettingsError, match=message):
            check_key_pair(KeyPair(*files))
