"""List* operations: filters, sort keys and pages, the same for every kind of resource."""

import json

from sagemaker_local.context import Context, Operation
from sagemaker_local.pages import decode_token, encode_token, fingerprint_of
from sagemaker_local.store import Document

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


def listing(kind: str, member: str, *, descending: bool = True) -> Operation:
    """A List* operation that shows all resources of a kind; see `list_resources`."""
    return lambda context, request: list_resources(
        context, kind, request, member, descending=descending
    )


def list_resources(
    context: Context, kind: str, request: Document, member: str, *, descending: bool
) -> Document:
    """Answers a List* request.

    Args:
        context: What operations work with.
        kind: The kind of the resources.
        request: The checked request.
        member: The answer's list member.
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
    after, fingerprint = "", fingerprint_of(member, request)
    if request.get("NextToken") is not None:
        after = f" AND ({column}, name) {sign} (?, ?)"
        values += decode_token(fingerprint, request["NextToken"])
    rows = context.store.execute(
        f"SELECT {column} AS sort_key, name, document FROM resource"  # noqa: S608 - own columns
        f" WHERE {' AND '.join(conditions)}{after}"
        f" ORDER BY {column} {direction}, name {direction} LIMIT ?",
        (*values, limit + 1),
    )
    answer: Document = {member: [json.loads(row["document"]) for row in rows[:limit]]}
    if len(rows) > limit:
        last = rows[limit - 1]
        position = [last["sort_key"], last["name"]]
        answer["NextToken"] = encode_token(fingerprint, position)
    return answer
