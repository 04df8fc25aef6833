"""Pages of lists: opaque tokens, each for the question that it was given for."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sagemaker_local.aws_errors import validation
from sagemaker_local.store import Document

# Members of requests, in any case, that say which page is wanted, and not of what.
_OF_PAGES = ("nexttoken", "maxresults", "maxrecords", "limit")


def page(
    items: Sequence[Document], fingerprint: str, token: str | None, limit: int
) -> tuple[Sequence[Document], str | None]:
    """A part of a list that is made anew for each request, and the token of the part behind it.

    Args:
        items: The whole list.
        fingerprint: That of the request.
        token: That of the request; None for the first part.
        limit: The most items of a part.

    Raises:
        AwsError: The token is not one that this request would have got.
    """
    start = int(decode_token(fingerprint, token)[0]) if token else 0
    end = start + limit
    return items[start:end], encode_token(fingerprint, [end]) if end < len(items) else None


def encode_token(fingerprint: str, position: list[Any]) -> str:
    """A page's end as an opaque token, valid only for requests with the same fingerprint."""
    return base64.urlsafe_b64encode(json.dumps([fingerprint, position]).encode()).decode()


def decode_token(fingerprint: str, token: str) -> list[Any]:
    """The position in a token.

    Raises:
        AwsError: It was not made here, or for another operation or other parameters.
    """
    try:
        made_for, position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        raise validation("Invalid NextToken.") from None
    if made_for != fingerprint or not isinstance(position, list):
        raise validation(
            "Invalid NextToken: the other parameters have changed, or it is another operation's."
        )
    return position


def fingerprint_of(member: str, request: Mapping[str, Any]) -> str:
    """What a request asks for, whichever page of it.

    Args:
        member: The answer's list member: operations may have the same parameters.
        request: The checked request.
    """
    question = {k: v for k, v in request.items() if k.lower() not in _OF_PAGES}
    return hashlib.sha256(json.dumps([member, question], sort_keys=True).encode()).hexdigest()[:16]
