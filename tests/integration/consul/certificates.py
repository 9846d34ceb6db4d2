"""Authorities and certificates for tests, made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest

DAY = datetime.timedelta(days=1)


class Authority:
    """A private certificate authority; `file` is its certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        """Skips the test where the package `cryptography` is not installed."""
        pytest.importorskip("cryptography")
        self._folder = folder
        self._certificate, self._key = _signed(name, None, ca=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self._certificate))

    def issue(
        self, file: str, *, names: tuple[str, ...] = (), days: int = 1, password: bytes = b""
    ) -> tuple[Path, Path]:
        """Writes FILE.pem and FILE.key, each in one step; `days` below 0: it has expired."""
        certificate, key = _signed(file, (self._certificate, self._key), names=names, days=days)
        pair = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        for path, data in zip(pair, (_pem(certificate), _key_pem(key, password)), strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            new.rename(path)
        return pair


def _signed(
    name: str, issuer: tuple[Any, Any] | None, *, names: tuple[str, ...] = (), days: int = 1,
    ca: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above, signer = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        above, subject, key.public_key(), x509.random_serial_number(),
        now - 10 * DAY, now + days * DAY,
    ).add_extension(x509.BasicConstraints(ca, None), critical=True)  # fmt: skip
    if names:
        found = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(found, critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def _general(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return data


def _key_pem(key: Any, password: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as made

    protection = made.BestAvailableEncryption(password) if password else made.NoEncryption()
    data: bytes = key.private_bytes(made.Encoding.PEM, made.PrivateFormat.PKCS8, protection)
    return data
