"""Failures of SageMaker and EMR: which of them may pass by themselves, and AWS's reason.

Beside the systems' folders, since both use it. Their kinds of errors are their own, and all that
S3 answers is in `s3/errors.py`.
"""

import ssl

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
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code != _MODEL_ERROR and (code in _TRANSIENT_CODES or status == 429 or status >= 500)
    return isinstance(error, _NETWORK_ERRORS) and not is_untrusted(error)


def is_untrusted(error: BaseException) -> bool:
    """Whether TLS failed for good: by a certificate that is not trusted, as a rule.

    botocore calls it an `SSLError`, too, where the other side just went away.
    """
    if not isinstance(error, SSLError):
        return False
    cause = error.kwargs.get("error")
    return not any(isinstance(part, ssl.SSLEOFError) for part in getattr(cause, "args", ()))


def code_and_reason(error: ClientError) -> tuple[str, str]:
    """AWS's name for a failure, `ThrottlingException` for instance, and its words."""
    answer = error.response.get("Error", {})
    return answer.get("Code", "Unknown"), answer.get("Message", str(error))
