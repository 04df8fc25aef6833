"""Certificates for tests: an authority of one's own, and a server that it vouches for."""

import datetime as dt
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """What those have who trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(called: str) -> Authority:
    """One of this name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    certificate = (
        _unsigned(name, name, key)
        .add_extension(constraints, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def write_server_files(folder: Path, authority: Authority, address: str = "") -> None:
    """Certificate of `localhost`, or of an IP address, `server.crt`, and its key, `server.key`."""
    name = x509.IPAddress(ip_address(address)) if address else x509.DNSName("localhost")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _unsigned(x509.Name([]), authority.certificate.subject, key)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "server.crt").write_bytes(certificate.public_bytes(pem))
    private = folder / "server.key"
    private.touch(0o600)
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
