"""HTTP answers: JSON, failures and the page, each with headers that restrict browsers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from chalice.app import Response

from api.errors import ApiError, TooLargeError, UnreadableError
from api.page import content_security_policy
from formats.digit_pictures import PictureError, PictureTooLargeError

_LOG = logging.getLogger(__name__)
_SECURITY_HEADERS: dict[str, str | list[str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def json_answer(body: dict[str, Any], status: int = 200) -> Response:
    """A JSON document."""
    return Response(body, {**_SECURITY_HEADERS, "Content-Type": "application/json"}, status)


def page_answer(html: str) -> Response:
    """A page, allowed to do only what its content security policy says."""
    headers: dict[str, str | list[str]] = {
        **_SECURITY_HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": content_security_policy(html),
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "X-Frame-Options": "DENY",
    }
    return Response(html, headers, 200)


def failure_answer(error: ApiError) -> Response:
    """A failure: `Code` for programs and `Message` for people, as Chalice names them too."""
    answer = json_answer({"Code": error.code, "Message": error.message}, error.status)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


def answering(view: Callable[..., Response]) -> Callable[..., Response]:
    """A view whose errors become answers; an unforeseen one is logged and answered with 500."""

    @functools.wraps(view)
    def answered(*args: Any, **kwargs: Any) -> Response:
        try:
            return view(*args, **kwargs)
        except ApiError as error:
            return failure_answer(error)
        except PictureTooLargeError as error:
            return failure_answer(TooLargeError(str(error)))
        except PictureError as error:
            return failure_answer(UnreadableError(str(error)))
        except Exception:
            _LOG.exception("a request failed for a reason that is not foreseen")
            return failure_answer(ApiError("Something went wrong here; the log says what."))

    return answered
