"""The kinds of failure of an S3 store, how botocore's exceptions become them, and which may pass.

Nothing here talks to S3. The number cruncher, whose S3 is obstore, has its own in its `store.py`.
"""

from collections.abc import Generator
from contextlib import contextmanager

from botocore import exceptions as boto
from s3transfer.exceptions import S3CopyFailedError
from urllib3.exceptions import HTTPError

from resources.aws_failures import code_and_reason, http_status, is_untrusted
from resources.errors import ResourceError


class StoreError(ResourceError):
    """An object store did not do what was asked of it."""


class BucketMissingError(StoreError):
    """The bucket does not exist."""


class ObjectMissingError(StoreError):
    """There is no object under the key."""


class ObjectTooLargeError(StoreError):
    """An object is larger than its reader is ready to take into memory."""


class NotPublishedError(StoreError):
    """What something is to be made of is not published; trying again would not help."""


class ManifestInvalidError(StoreError):
    """A manifest is not of the form that `formats.manifest` describes."""


class StoreAccessDeniedError(StoreError):
    """The credentials are valid but not allowed to do this."""


class StoreCredentialsError(StoreError):
    """There are no credentials, or they are wrong or expired."""


class StoreRequestError(StoreError):
    """The store refuses the request as it is."""


class ObjectChangedError(StoreError):
    """An object is not, or no longer, the one that was asked for by ETag or by sha256."""

    transient = True


class StoreUnavailableError(StoreError):
    """The store cannot be reached, is overloaded, or broke off."""

    transient = True


# What botocore and urllib3 raise where no answer, or half an answer, came back.
CONNECTION_FAULTS = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    HTTPError,
)
_MISSING_BUCKET = {"NoSuchBucket"}
_MISSING_OBJECT = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"}
_CREDENTIALS = {
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
# NoSuchUpload: a multipart upload that somebody else aborted, most often another run's commit.
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_BUSY_STATUS, _SERVER_FAULT = 503, 500


@contextmanager
def store_errors(action: str, *, bucket: str, key: str = "") -> Generator[None]:
    """Raises boto's failures inside the block as one of this module's kinds.

    Args:
        action: what was being done, as a verb ("read", "write").
    """
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, HTTPError, S3CopyFailedError) as error:
        raise translate(error, action, bucket=bucket, key=key) from error


def translate(error: Exception, action: str, *, bucket: str, key: str = "") -> StoreError:
    """The kind and sentence for an exception of botocore, s3transfer or urllib3."""
    target = f"s3://{bucket}/{key}"
    if isinstance(error, boto.ClientError):
        return _from_answer(error, action, bucket, target)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StoreCredentialsError(
            f"Cannot {action} {target}: no complete credentials were found. Set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, or run where an IAM role is attached."
        )
    if is_untrusted(error):
        return StoreRequestError(
            f"Cannot {action} {target}: the store's certificate is not trusted. Set AWS_CA_BUNDLE "
            "to its authority, or correct AWS_ENDPOINT_URL_S3."
        )
    if isinstance(error, S3CopyFailedError):
        return ObjectChangedError(f"Cannot {action} {target}: {error} Run again.")
    if isinstance(error, boto.ProxyConnectionError):
        # botocore's own text masks the proxy's user and password.
        return StoreUnavailableError(
            f"Cannot {action} {target}: {error}. Check that this proxy runs and lets us through, "
            "or name the store's host in NO_PROXY; then run again."
        )
    if isinstance(error, CONNECTION_FAULTS):
        return StoreUnavailableError(
            f"Cannot {action} {target}: the store cannot be reached or broke off "
            f"({type(error).__name__}). Check that it runs and that AWS_ENDPOINT_URL_S3 points to "
            "it; then run again."
        )
    return StoreRequestError(f"Cannot {action} {target}: {error}")


def _from_answer(error: boto.ClientError, action: str, bucket: str, target: str) -> StoreError:
    code, reason = code_and_reason(error)
    status = http_status(error)
    if code in _MISSING_BUCKET:
        return BucketMissingError(
            f"Cannot {action} {target}: the bucket {bucket} does not exist at this endpoint. "
            "Create it, or correct the bucket's name in the environment."
        )
    if code in _MISSING_OBJECT:
        return ObjectMissingError(
            f"Cannot {action} {target}: there is no such object. Materialise the asset that "
            "writes it, or correct the key."
        )
    if code in _CREDENTIALS:
        return StoreCredentialsError(
            f"Cannot {action} {target}: the store does not accept the credentials ({code}). "
            "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the region."
        )
    if code in _DENIED:
        return StoreAccessDeniedError(
            f"Cannot {action} {target}: access is denied. Allow the role this on the bucket (and "
            "s3:ListBucket: without it S3 answers the same for objects that do not exist)."
        )
    if code == "RequestTimeTooSkewed":
        return StoreRequestError(
            f"Cannot {action} {target}: this machine's clock differs too much from the store's. "
            "Set the clock."
        )
    if code in _CHANGED:
        return ObjectChangedError(
            f"Cannot {action} {target}: it was changed by somebody else meanwhile ({code}). "
            "Run again."
        )
    if code in _BUSY or status == _BUSY_STATUS:
        return StoreUnavailableError(
            f"Cannot {action} {target}: the store is overloaded ({code}). Run again later."
        )
    if status >= _SERVER_FAULT:
        return StoreUnavailableError(
            f"Cannot {action} {target}: the store has a fault ({code}), as when its disk is full. "
            "Look at its disk and its log, then run again."
        )
    return StoreRequestError(
        f"Cannot {action} {target}: the store refuses the request ({code}: {reason})."
    )
