"""Certificates of an unknown authority, for a server on this machine."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def own_authority(folder: Path) -> tuple[Path, Path]:
    """PEM files: the authority's certificate; a certificate of 127.0.0.1 that it signed, with its key."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Plant authority")])
    own = _builder(name, name, authority).add_extension(x509.BasicConstraints(True, None), critical=True)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    served = _builder(subject, name, server).add_extension(address, critical=False)
    files = folder / "authority.pem", folder / "server.pem"
    files[0].write_bytes(_pem(own, authority))
    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files[1].write_bytes(_pem(served, authority) + key)
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


def _pem(builder: x509.CertificateBuilder, signed_by: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
