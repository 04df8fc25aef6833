"""The errors that a caller sees: each has an HTTP status, a code and a message."""

from __future__ import annotations


class ApiError(Exception):
    """A request that cannot be answered as asked.

    Attributes:
        status: The HTTP status.
        code: Which failure it is, for programs.
        retry_after: Seconds after which it is worth asking again.
    """

    status = 500
    code = "InternalServerError"
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequestError(ApiError):
    """The body is not what the route reads."""

    status, code = 400, "BadRequest"


class UnauthorizedError(ApiError):
    """No API key, or a wrong one."""

    status, code = 401, "Unauthorized"


class TooLargeError(ApiError):
    """More bytes, pixels or pictures than one request may hold."""

    status, code = 413, "PayloadTooLarge"


class MediaTypeError(ApiError):
    """The body is of a type that the route does not read."""

    status, code = 415, "UnsupportedMediaType"


class UnreadableError(ApiError):
    """A picture that no digit can be read off."""

    status, code = 422, "UnprocessableEntity"


class OverloadedError(ApiError):
    """More requests than can be answered at the same time."""

    status, code, retry_after = 429, "TooManyRequests", 1


class BadEndpointError(ApiError):
    """The endpoint answered, but not with clusters."""

    status, code = 502, "BadGateway"


class NotInServiceError(ApiError):
    """The endpoint is not there, not yet there, or out of reach."""

    status, code, retry_after = 503, "ServiceUnavailable", 5


class EndpointTimeoutError(ApiError):
    """The endpoint did not answer in time."""

    status, code = 504, "GatewayTimeout"
