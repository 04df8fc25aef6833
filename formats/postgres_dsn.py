"""The parts of a Postgres connection string (DSN), without its password.

All forms that libpq takes: URIs, `key=value`, several hosts, services; and SQLAlchemy's URIs, which
name a driver. Messages show a DSN, or errors about one, only through these functions.
"""

import re

import psycopg2
from psycopg2.extensions import parse_dsn

from formats.errors import FormatError

_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+://")
_HIDDEN = ("password", "sslpassword")
_WITHOUT_AT = re.compile(r"[^@]*")
_PORTS = re.compile(r"[\d,]*")


class DsnError(FormatError):
    """It is no DSN. The message holds nothing of it, since what is not understood may be secret."""


def parse(dsn: str) -> dict[str, str]:
    """The settings that it consists of, by libpq's names.

    Raises:
        DsnError: it is no DSN, or a password that is not escaped was taken for something else.
    """
    try:
        parts: dict[str, str] = parse_dsn(libpq_dsn(dsn))
    except (psycopg2.Error, UnicodeError):
        parts = {"port": "none"}
    # An unescaped "/", "?" or "@" in a password makes hosts, ports and names of what follows it.
    names = [parts.get(name, "") for name in ("host", "hostaddr", "dbname")]
    if not _PORTS.fullmatch(parts.get("port", "")) or not all(map(_WITHOUT_AT.fullmatch, names)):
        raise DsnError(
            "The Postgres DSN cannot be parsed. Write it as "
            "postgresql://user:password@host:port/database, special characters %-encoded."
        )
    return parts


def libpq_dsn(dsn: str) -> str:
    """The DSN without SQLAlchemy's driver, as libpq takes it."""
    return _DRIVER.sub(r"\1://", dsn.strip())


def target(dsn: str) -> str:
    """Its "host:port/database", without user and password; several hosts with commas.

    Raises:
        DsnError: it is no DSN.
    """
    parts = parse(dsn)
    if "service" in parts and "host" not in parts:
        return f"service {parts['service']}"
    hosts = (parts.get("host") or parts.get("hostaddr") or "localhost").split(",")
    ports = (parts.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))
    return f"{places}/{parts.get('dbname', parts.get('user', ''))}"


def redact(text: str, dsn: str) -> str:
    """A text, an error's for instance, without what the DSN keeps secret.

    Nothing of the text is left where the DSN is not understood: it may quote any part of it.
    """
    try:
        parts = parse(dsn)
    except DsnError as error:
        return str(error)
    for secret in (dsn, *(parts[name] for name in _HIDDEN if parts.get(name))):
        text = text.replace(secret, "***")
    return text
