"""Verifies AWS Signature Version 4 of incoming requests: who signed what, when, with which key.

One key pair is accepted. Nothing here decides what a caller may do: the key may do everything.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote

from sagemaker_local.aws_errors import AwsError

ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"
_SKEW_SECONDS = 300
# IAM is one for all regions, and signed for this one.
_GLOBAL = {"iam": "us-east-1"}


@dataclass(frozen=True)
class SignedRequest:
    """A request as it came over the wire.

    Attributes:
        method: HTTP method in capitals.
        path: Path as sent, percent-encoded.
        query: Query string as sent, without the question mark.
        headers: Names in lower case; several values of one name joined by commas.
        body: The whole body.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Authorization:
    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Verifier:
    """Checks requests against one key pair and one region."""

    def __init__(self, access_key: str, secret_key: str, region: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region

    def verify(
        self, request: SignedRequest, services: Collection[str], now: datetime | None = None
    ) -> str:
        """Accepts a rightly signed request.

        Args:
            request: The request, body included.
            services: Those that it may be signed for.
            now: The server's clock; the real one if None.

        Returns:
            The service the request was signed for.

        Raises:
            AwsError: The signature is missing, malformed, expired or wrong, in AWS's words.
        """
        auth = _parse(request.headers.get("authorization"))
        stamp = _stamp(request.headers)
        if "x-amz-security-token" in request.headers or not hmac.compare_digest(
            auth.access_key.encode(), self._access_key.encode()
        ):
            raise AwsError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                403,
            )
        self._check_scope(auth, stamp, services)
        _check_clock(stamp, now or datetime.now(UTC))
        missing = _unsigned(request.headers, auth.signed_headers)
        if missing:
            raise _invalid(f"'{missing}' must be a 'SignedHeader' in the AWS Authorization.")
        expected = self._signature(request, auth, stamp)
        if not hmac.compare_digest(expected.encode(), auth.signature.encode()):
            raise _invalid(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details."
            )
        return auth.service

    def _check_scope(self, auth: _Authorization, stamp: str, services: Collection[str]) -> None:
        if auth.region not in (self._region, _GLOBAL.get(auth.service)):
            raise _invalid(f"Credential should be scoped to a valid region, not '{auth.region}'.")
        if auth.service not in services:
            offered = ", ".join(f"'{name}'" for name in sorted(services))
            raise _invalid(
                f"Credential should be scoped to correct service: {offered}, not '{auth.service}'."
            )
        if auth.date != stamp[:8]:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                f"from HTTP: '{auth.date}' != '{stamp[:8]}', from '{stamp}'."
            )

    def _signature(self, request: SignedRequest, auth: _Authorization, stamp: str) -> str:
        digest = hashlib.sha256(request.body).hexdigest()
        claimed = request.headers.get("x-amz-content-sha256", digest)
        if not hmac.compare_digest(claimed.encode(), digest.encode()):
            raise _invalid(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        headers = "".join(
            f"{name}:{' '.join(request.headers.get(name, '').split())}\n"
            for name in auth.signed_headers
        )
        canonical = "\n".join(
            (
                request.method,
                quote(request.path or "/", safe="/~"),
                _canonical_query(request.query),
                headers,
                ";".join(auth.signed_headers),
                digest,
            )
        )
        text = "\n".join(
            (ALGORITHM, stamp, auth.scope, hashlib.sha256(canonical.encode()).hexdigest())
        )
        key = _signing_key(self._secret_key, auth.date, auth.region, auth.service)
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _parse(header: str | None) -> _Authorization:
    if not header:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _incomplete(f"Authorization header requires '{name}' parameter.")
    credential = fields["Credential"].rsplit("/", 4)
    if len(credential) != 5 or credential[4] != "aws4_request":
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            "keyid/date/region/service/term, got '" + fields["Credential"] + "'"
        )
    access_key, date, region, service, _ = credential
    signed = tuple(name.lower() for name in fields["SignedHeaders"].split(";"))
    return _Authorization(access_key, date, region, service, signed, fields["Signature"])


def _stamp(headers: Mapping[str, str]) -> str:
    stamp = headers.get("x-amz-date", "")
    try:
        datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        ) from None
    return stamp


def _check_clock(stamp: str, now: datetime) -> None:
    signed = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    skew = (now - signed).total_seconds()
    here = now.strftime(_STAMP)
    if skew > _SKEW_SECONDS:
        raise _invalid(f"Signature expired: {stamp} is now earlier than {here} - 5 min.")
    if skew < -_SKEW_SECONDS:
        raise _invalid(f"Signature not yet current: {stamp} is still later than {here} + 5 min.")


def _unsigned(headers: Mapping[str, str], signed: tuple[str, ...]) -> str | None:
    """The first header that AWS wants signed and that is not: host and every `x-amz-*`."""
    for name in ("host", *sorted(headers)):
        if (name == "host" or name.startswith("x-amz-")) and name not in signed:
            return name
    return None


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


@lru_cache(maxsize=8)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidSignatureException", message, 403)


def _incomplete(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", message, 403)
