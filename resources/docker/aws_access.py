"""How a module outside this process reaches AWS: just as this process does.

Endpoint, region, trust, proxies and credentials are what boto3 finds here, whichever of its ways
they come: variables, profiles, files, roles. How they get to the module is not known here.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials

from formats.proxies import LOOPBACK, proxy_variables
from resources.errors import ResourceError

RENEW_SECONDS = 30.0
"""How often a module is given the credentials anew, if they expire."""

# botocore asks again from 15 minutes before the end on, and puts up with a failure until 10.
_LEASE = timedelta(minutes=14)
HOST = "host.docker.internal"


class TrustMissingError(ResourceError):
    """The bundle of certificates cannot be read."""


@dataclass(frozen=True)
class AwsAccess:
    """What a module needs to reach AWS.

    Attributes:
        environment: variables that are no secrets.
        private: variables that may hold passwords: of proxies.
        ca_bundle: file of trusted certificates; empty for those of the system.
        credentials: AWS's variables of credentials as they are now; none where there are none.
        expires: whether they change while the module runs.
    """

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    private: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    ca_bundle: str = ""
    credentials: Callable[[], dict[str, str]] = field(default=dict, repr=False)
    expires: bool = False


def discover_aws_access(*, forward_credentials: bool) -> AwsAccess:
    """What boto3 finds in this process.

    Args:
        forward_credentials: whether the credentials are given, too.
    """
    core = botocore.session.get_session()
    session = boto3.Session(botocore_session=core)
    environment = {"AWS_ENDPOINT_URL_S3": _endpoint_of_s3(session)}
    if session.region_name:
        environment["AWS_DEFAULT_REGION"] = session.region_name
    bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    credentials = session.get_credentials() if forward_credentials else None
    return AwsAccess(
        environment=environment,
        private=proxy_variables(os.environ),
        ca_bundle=str(bundle or ""),
        credentials=(lambda: _variables(_as_now(credentials))) if credentials else dict,
        expires=isinstance(credentials, RefreshableCredentials),
    )


def _endpoint_of_s3(session: boto3.Session) -> str:
    # A client takes a tenth of a second of processor to make.
    if address := os.environ.get("AWS_ENDPOINT_URL_S3"):
        return address
    # For its address alone, so that it does not look for credentials: they may be a service's that
    # is not there. Each of its overloads for services whose stubs are not installed is unknown.
    client = session.client("s3", config=Config(signature_version=UNSIGNED))  # pyright: ignore[reportUnknownMemberType]
    return client.meta.endpoint_url


def _as_now(credentials: Credentials) -> Credentials:
    """The credentials, renewed where they should be."""
    # Those of an EC2 instance botocore keeps for up to ten minutes past their end; a new session
    # asks for them anew, which costs a request to this machine's metadata service.
    if credentials.method == "iam-role":
        return boto3.Session().get_credentials() or credentials
    return credentials


def _variables(credentials: Credentials) -> dict[str, str]:
    frozen = credentials.get_frozen_credentials()
    expires = isinstance(credentials, RefreshableCredentials)
    variables = {
        "AWS_ACCESS_KEY_ID": frozen.access_key,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
        "AWS_SESSION_TOKEN": frozen.token,
        # Not their own end: renewed ones are there long before.
        "AWS_CREDENTIAL_EXPIRATION": (datetime.now(UTC) + _LEASE).isoformat() if expires else None,
    }
    return {name: value for name, value in variables.items() if value}


def as_process_output(credentials: Mapping[str, str]) -> bytes:
    """Credentials in the form that botocore's `credential_process` reads."""
    names = {
        "AWS_ACCESS_KEY_ID": "AccessKeyId",
        "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
        "AWS_SESSION_TOKEN": "SessionToken",
        "AWS_CREDENTIAL_EXPIRATION": "Expiration",
    }
    fields = {names[name]: value for name, value in credentials.items()}
    return json.dumps({"Version": 1, **fields}).encode()


def read_bundle(access: AwsAccess) -> bytes:
    """The trusted certificates.

    Raises:
        TrustMissingError: the file cannot be read.
    """
    try:
        return Path(access.ca_bundle).read_bytes()
    except OSError as error:
        raise TrustMissingError(
            f"The bundle of certificates {access.ca_bundle} cannot be read ({error.strerror})."
            " Correct AWS_CA_BUNDLE, or ca_bundle of the AWS profile."
        ) from error


def as_seen_from_container(access: AwsAccess) -> AwsAccess:
    """The same for a container whose loopback is not this machine's."""
    environment, private = dict(access.environment), dict(access.private)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3", "")
    environment["AWS_ENDPOINT_URL_S3"] = moved = _moved(endpoint)
    # What NO_PROXY holds are names, not addresses.
    proxies = {name: url for name, url in private.items() if name.lower() != "no_proxy"}
    private |= {name: _moved(url) for name, url in proxies.items()}
    if moved != endpoint:
        private = proxy_variables(private, HOST)
    return replace(access, environment=environment, private=private)


def _moved(url: str) -> str:
    """An address on this machine's loopback as a container finds it; any other as it is."""
    # Proxies may be written without a scheme.
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.hostname not in LOOPBACK:
        return url
    login, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{login}{at}{HOST}{port}").geturl()
