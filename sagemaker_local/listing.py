"""List* operations: filters, sort keys and pages, the same for every kind of resource."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sagemaker_local.aws_errors import validation
from sagemaker_local.store import Document, Store

_COLUMNS = {"Name": "name", "CreationTime": "created", "Status": "status"}
_FILTERS = {
    # The version of a model package, which stands behind a slash, is no part of its name.
    "NameContains": "instr(lower(substr(name, 1, instr(name || '/', '/') - 1)), lower(?)) > 0",
    "StatusEquals": "status = ?",
    "ModelApprovalStatus": "status = ?",
    "ModelPackageGroupName": "name LIKE ? || '/%'",
    "ModelPackageType": "(instr(name, '/') > 0) = (? = 'Versioned')",
    "CreationTimeAfter": "created > ?",
    "CreationTimeBefore": "created < ?",
    "LastModifiedTimeAfter": "modified > ?",
    "LastModifiedTimeBefore": "modified < ?",
}
_USUAL_PAGE = 10
# Members of requests, in any case, that say which page is wanted, and not of what.
_OF_PAGES = ("nexttoken", "maxresults", "maxrecords", "limit")


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
    column = _COLUMNS[request.get("SortBy", "CreationTime")]
    if order := request.get("SortOrder"):
        descending = order == "Descending"
    conditions: dict[str, object] = {"kind = ?": kind}
    for name, condition in _FILTERS.items():
        if request.get(name) is not None:
            conditions[condition] = request[name]
    values = list(conditions.values())
    sign, direction = ("<", "DESC") if descending else (">", "ASC")
    after = ""
    if request.get("NextToken") is not None:
        after = f" AND ({column}, name) {sign} (?, ?)"
        values += decode_token(fingerprint(request), request["NextToken"])
    rows = store.execute(
        f"SELECT {column} AS sort_key, name, document FROM resource"  # noqa: S608 - own columns
        f" WHERE {' AND '.join(conditions)}{after}"
        f" ORDER BY {column} {direction}, name {direction} LIMIT ?",
        (*values, limit + 1),
    )
    answer: Document = {member: [summary(json.loads(row["document"])) for row in rows[:limit]]}
    if len(rows) > limit:
        last = rows[limit - 1]
        position = [last["sort_key"], last["name"]]
        answer["NextToken"] = encode_token(fingerprint(request), position)
    return answer


def page(
    items: Sequence[Document], asked: str, token: str | None, limit: int
) -> tuple[Sequence[Document], str | None]:
    """A part of a list that is made anew for each request, and the token of the part behind it.

    Args:
        items: The whole list.
        asked: The fingerprint of the request.
        token: That of the request; None for the first part.
        limit: The most items of a part.

    Raises:
        AwsError: The token is not one that this request would have got.
    """
    start = int(decode_token(asked, token)[0]) if token else 0
    end = start + limit
    return items[start:end], encode_token(asked, [end]) if end < len(items) else None


def encode_token(asked: str, position: list[Any]) -> str:
    """A page's end as an opaque token, valid only for requests with the same fingerprint."""
    return base64.urlsafe_b64encode(json.dumps([asked, position]).encode()).decode()


def decode_token(asked: str, token: str) -> list[Any]:
    """The position in a token.

    Raises:
        AwsError: It was not made here or belongs to a request with other parameters.
    """
    try:
        made_for, position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        raise validation("Invalid NextToken.") from None
    if made_for != asked or not isinstance(position, list):
        raise validation("Invalid NextToken: the other parameters have changed.")
    return position


def fingerprint(request: Mapping[str, Any]) -> str:
    """What a request asks for, whichever page of it."""
    question = {k: v for k, v in request.items() if k.lower() not in _OF_PAGES}
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
