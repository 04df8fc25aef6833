"""Errors of assets: which ones are written for people, and which ones may pass by themselves.

Errors of outside systems stand in `resources`, those of file formats in `formats`.
"""

from typing import ClassVar

from formats.errors import FormatError
from resources.errors import ResourceError


class PlatformError(Exception):
    """An asset could not be made or checked, for a reason that somebody has foreseen.

    The message is one or two sentences: what happened, to what, and what to do. It never holds a
    secret.

    Attributes:
        transient: True where another attempt may succeed without anybody changing anything.
    """

    transient: ClassVar[bool] = False


# Their messages are written for whoever runs the platform; everything else is a surprise.
EXPECTED = (PlatformError, ResourceError, FormatError)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed by itself."""
    return isinstance(error, PlatformError | ResourceError) and error.transient


def describe_error(error: Exception) -> str:
    """The error's message; with the error's type where the message is not written for people."""
    return str(error) if isinstance(error, EXPECTED) else f"{type(error).__name__}: {error}"
