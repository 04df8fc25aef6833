"""List* operations: filters, order and pages, the same for every kind of resource."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from sagemaker_local.aws_errors import validation
from sagemaker_local.store import Document, Page, Store

_ORDERS = {"Name": "name", "CreationTime": "created", "Status": "status"}
_USUAL_PAGE = 10


def list_resources(
    store: Store,
    kind: str,
    request: Mapping[str, Any],
    member: str,
    summary: Callable[[Document], Document],
    *,
    descending: bool = True,
) -> Document:
    """Answers a List* request.

    Args:
        store: Where the resources are.
        kind: Their kind.
        request: The checked request.
        member: The answer's list member.
        summary: Makes a summary of a document.
        descending: The operation's order where the request names none.

    Raises:
        AwsError: The NextToken is not one that this request would have got.
    """
    limit = int(request.get("MaxResults", _USUAL_PAGE))
    order = request.get("SortOrder")
    page = Page(
        limit=limit + 1,
        order=_ORDERS[request.get("SortBy", "CreationTime")],
        descending=descending if order is None else order == "Descending",
        after=_position(request),
        name_contains=request.get("NameContains", ""),
        status=request.get("StatusEquals", ""),
        created_after=request.get("CreationTimeAfter"),
        created_before=request.get("CreationTimeBefore"),
        modified_after=request.get("LastModifiedTimeAfter"),
        modified_before=request.get("LastModifiedTimeBefore"),
    )
    rows = store.page(kind, page)
    answer: Document = {member: [summary(document) for _, document in rows[:limit]]}
    if len(rows) > limit:
        key, last = rows[limit - 1]
        answer["NextToken"] = encode_token(_fingerprint(request), [key, _name(last)])
    return answer


def encode_token(fingerprint: str, position: list[Any]) -> str:
    """A page's end as an opaque token, valid only for requests with the same other parameters."""
    return base64.urlsafe_b64encode(json.dumps([fingerprint, position]).encode()).decode()


def decode_token(fingerprint: str, token: str) -> list[Any]:
    """The position in a token.

    Raises:
        AwsError: It was not made here or belongs to a request with other parameters.
    """
    try:
        made_for, position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        raise validation("Invalid NextToken.") from None
    if made_for != fingerprint or not isinstance(position, list):
        raise validation("Invalid NextToken: the other parameters have changed.")
    return position


def _position(request: Mapping[str, Any]) -> tuple[float | str, str] | None:
    token = request.get("NextToken")
    if token is None:
        return None
    key, name = decode_token(_fingerprint(request), token)
    return key, name


def _fingerprint(request: Mapping[str, Any]) -> str:
    question = {k: v for k, v in request.items() if k not in ("NextToken", "MaxResults")}
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]


def _name(document: Document) -> str:
    for member in ("TrainingJobName", "EndpointName", "EndpointConfigName", "ModelName"):
        if member in document:
            return document[member]
    raise KeyError(f"no name in {sorted(document)}")
