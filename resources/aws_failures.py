"""What AWS's clients raise: AWS's name and words for it, and whether it may pass by itself.

Beside the systems' folders, since several use it; their kinds of errors are their own. For S3,
`s3/errors.py` says what may pass.
"""

import ssl
from typing import TypeGuard
from urllib.parse import urlsplit

from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, that is what is meant
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)

# Beyond HTTP 429 and 5xx: AWS sends some of these with status 400.
_TRANSIENT_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalDependencyException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "ModelNotReadyException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
# A container's own error is passed on with status 424 or 5xx: it is not the service's.
_MODEL_ERROR = "ModelError"
_NETWORK_ERRORS = (ConnectionError, HTTPClientError, IncompleteReadError)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        code, _ = code_and_reason(error)
        status = http_status(error)
        return code != _MODEL_ERROR and (code in _TRANSIENT_CODES or status == 429 or status >= 500)
    return isinstance(error, _NETWORK_ERRORS) and not is_untrusted(error)


def is_untrusted(error: BaseException) -> TypeGuard[SSLError]:
    """Whether TLS failed for good: by a certificate that is not trusted, as a rule.

    botocore calls it an `SSLError`, too, where the other side just went away.
    """
    if not isinstance(error, SSLError):
        return False
    cause = error.kwargs.get("error")
    return not any(isinstance(part, ssl.SSLEOFError) for part in getattr(cause, "args", ()))


def explain_untrusted(error: SSLError) -> str:
    """Whose certificate is not trusted, why, and what to do: half a sentence."""
    url = urlsplit(error.kwargs["endpoint_url"])
    return (
        f"the certificate of {url.scheme}://{url.netloc} is not trusted ({error.kwargs['error']}). "
        "Set AWS_CA_BUNDLE to its authority, or correct this address"
    )


def http_status(error: ClientError) -> int:
    """The status of an answer; 0 where there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_and_reason(error: ClientError) -> tuple[str, str]:
    """AWS's name for a failure, `ThrottlingException` for instance, and its words."""
    answer = error.response.get("Error", {})
    return answer.get("Code", "Unknown"), answer.get("Message", str(error))
