"""What closes SeaweedFS's inside to the other users of a machine: `security.toml`.

Its parts talk to each other over ports, which ask for nothing by themselves: not even for the keys
of S3. Certificate and signing keys are new at every start, since nothing that is kept needs them.
"""

import datetime as dt
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.home import write_private

_CERTIFICATE, _KEY = "seaweedfs.crt", "seaweedfs.key"
# The one certificate is everybody's: as a server, as a client, and as the authority.
_PARTS = ("client", "master", "volume", "filer", "s3", "admin", "worker")


def write(folder: Path) -> None:
    """Write certificate, key and `security.toml`.

    Args:
        folder: The working folder of `weed`, where it looks for its configuration first.
    """
    certificate, key = _make_certificate()
    write_private(folder / _CERTIFICATE, certificate)
    write_private(folder / _KEY, key)
    signing = "".join(
        f'[jwt.{name}]\nkey = "{secrets.token_hex(32)}"\n'
        for name in ("signing", "signing.read", "filer_signing", "filer_signing.read")
    )
    grpc = f'[grpc]\nca = "{_CERTIFICATE}"\n' + "".join(
        f'[grpc.{part}]\ncert = "{_CERTIFICATE}"\nkey = "{_KEY}"\n' for part in _PARTS
    )
    # Pages. SeaweedFS itself asks for one of them in vain, which is a line of its log every 15 s:
    # it would find nothing there either, since `-disableHttp` takes all of them but a status.
    https = "".join(
        f'[https.{part}]\ncert = "{_CERTIFICATE}"\nkey = "{_KEY}"\nca = "{_CERTIFICATE}"\n'
        for part in ("master", "admin")
    )
    write_private(folder / "security.toml", signing + grpc + https)


def _make_certificate() -> tuple[str, str]:
    """A certificate that signs itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "platform")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A machine's clock may be set back.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
