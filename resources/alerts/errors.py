"""The kinds of failure of a target of alerts, and how the libraries' exceptions become them.

No message holds any part of the target's address.
"""

import smtplib
import ssl
from collections.abc import Generator
from contextlib import contextmanager

import requests
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from resources.aws_failures import code_and_reason, http_status, is_untrusted
from resources.errors import ResourceError


class AlertError(ResourceError):
    """A message could not be delivered."""


class AlertTargetError(AlertError):
    """The target is not understood, or takes nothing from us, until its setting is corrected."""


class AlertMessageError(AlertError):
    """The target refuses this message for what it holds, and would refuse it again."""


class AlertUnavailableError(AlertError):
    """The target cannot be reached, is overloaded, or broke off."""

    transient = True


# Where the target gave no answer. The first class that an exception is an instance of counts.
_BY_EXCEPTION: dict[type[Exception], type[AlertError]] = {
    requests.ConnectionError: AlertUnavailableError,
    requests.Timeout: AlertUnavailableError,
    requests.exceptions.ChunkedEncodingError: AlertUnavailableError,
    requests.RequestException: AlertTargetError,  # no URL
    NoCredentialsError: AlertTargetError,
    PartialCredentialsError: AlertTargetError,
    BotoCoreError: AlertUnavailableError,
    ResponseParserError: AlertUnavailableError,
    smtplib.SMTPNotSupportedError: AlertTargetError,
    smtplib.SMTPException: AlertUnavailableError,
    ssl.SSLEOFError: AlertUnavailableError,  # of mail: it just went away
    ssl.SSLError: AlertTargetError,
    OSError: AlertUnavailableError,
    ValueError: AlertTargetError,  # no address
}
# By the HTTP status of a webhook, or the code of SNS. From 500 on the server has a fault; any other
# answer (401, 403, 404, 410, AuthorizationError, …) means that it takes nothing from us.
_BY_ANSWER: dict[int | str, type[AlertError]] = {
    400: AlertMessageError,
    413: AlertMessageError,
    422: AlertMessageError,
    408: AlertUnavailableError,
    425: AlertUnavailableError,
    429: AlertUnavailableError,
    "InvalidParameter": AlertMessageError,
    "ParameterValueInvalid": AlertMessageError,
    "ValidationException": AlertMessageError,
    "KMSThrottling": AlertUnavailableError,
    "Throttled": AlertUnavailableError,
    "Throttling": AlertUnavailableError,
    "ThrottlingException": AlertUnavailableError,
}
_SERVER_FAULT = 500
# RFC 5321: what begins with 4 may be tried again, what begins with 5 may not.
_SMTP_PERMANENT = 500
# RFC 1870: what a server answers to MAIL where the size that it names is too much.
_SMTP_TOO_LARGE = 552

_SENTENCES: dict[type[AlertError], str] = {
    AlertTargetError: (
        "The {target} of PLATFORM_ALERTS takes no messages ({reason}): {to_do}. They are sent once "
        "this is corrected."
    ),
    AlertMessageError: (
        "The {target} of PLATFORM_ALERTS refuses this message for what it holds ({reason}): look "
        "at the problem in Dagster's UI."
    ),
    AlertUnavailableError: (
        "The {target} of PLATFORM_ALERTS cannot be reached or is busy ({reason}): check that it "
        "runs and that the network, or the proxy, lets us through. The messages are sent later."
    ),
}


@contextmanager
def target_errors(target: str, to_do: str) -> Generator[None]:
    """Raises the libraries' failures inside the block as one of this module's kinds.

    Args:
        target: What gets the message: "webhook" for instance.
        to_do: What a person can do where the target is set up wrongly, as half a sentence.
    """
    try:
        yield
    except (ClientError, *_BY_EXCEPTION) as error:
        kind, reason = _judge(error)
        if bundle := _missing_authority(error):
            kind = AlertTargetError
            to_do = f"its certificate is not trusted, set {bundle} to its authority"
        sentence = _SENTENCES[kind].format(target=target, reason=reason, to_do=to_do)
        # Not chained by `from error`: the libraries' texts hold the address.
        raise kind(sentence) from None


def _missing_authority(error: Exception) -> str:
    """The setting that lacks the authority of an untrusted certificate; empty for other failures.

    Mail has its own words for it: its server's certificate is checked by Python itself.
    """
    if isinstance(error, requests.exceptions.SSLError):
        # requests calls it so, too, where the other side just went away.
        (cause, *_) = error.args
        parts = getattr(getattr(cause, "reason", cause), "args", ())
        went_away = any(isinstance(part, ssl.SSLEOFError) for part in parts)
        return "" if went_away else "REQUESTS_CA_BUNDLE"
    return "AWS_CA_BUNDLE" if is_untrusted(error) else ""


def _judge(error: Exception) -> tuple[type[AlertError], str]:
    """The kind of an exception, and a reason that can be shown."""
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return _by_answer(status, status), f"HTTP {status}"
    if isinstance(error, ClientError):
        code, _ = code_and_reason(error)
        return _by_answer(code, http_status(error)), code
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        # Some of them may be taken later.
        code = min(code for code, _ in error.recipients.values())
        return _by_smtp_code(code, for_content=False), f"SMTP {code}"
    if isinstance(error, smtplib.SMTPResponseException):
        for_content = isinstance(error, smtplib.SMTPDataError) or (
            isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code == _SMTP_TOO_LARGE
        )
        return _by_smtp_code(error.smtp_code, for_content), f"SMTP {error.smtp_code}"
    kinds = (kind for library, kind in _BY_EXCEPTION.items() if isinstance(error, library))
    return next(kinds), type(error).__name__


def _by_answer(code: int | str, status: int) -> type[AlertError]:
    if status >= _SERVER_FAULT:
        return AlertUnavailableError
    return _BY_ANSWER.get(code, AlertTargetError)


def _by_smtp_code(code: int, for_content: bool) -> type[AlertError]:
    if code < _SMTP_PERMANENT:
        return AlertUnavailableError
    return AlertMessageError if for_content else AlertTargetError
