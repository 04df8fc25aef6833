"""Addresses of objects in S3: `s3://bucket/key`.

They are no URLs: nothing in a key is escaped, and `#`, `?`, `%41`, `+` and spaces are characters of
it as any others.
"""

import re

from .errors import FormatError

_PARTS = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)


def parse(uri: str) -> tuple[str, str]:
    """The bucket and the key, or beginning of keys, that an address names.

    The key is empty where the address names the whole bucket.

    Raises:
        FormatError: it is no address of S3.
    """
    parts = _PARTS.fullmatch(uri)
    if parts is None:
        raise FormatError(f"{uri!r} is not of the form s3://bucket/key: set it so.")
    return parts[1], parts[2] or ""
