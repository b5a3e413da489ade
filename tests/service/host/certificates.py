"""Self-signed certificates for the tests."""

import subprocess
from pathlib import Path

from service.host.tls import KeyPair


def create_certificate(folder: Path, name: str) -> KeyPair:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.key")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return pair
