"""Tags of resources: AddTags, ListTags, DeleteTags, and what Create* calls bring along."""

from collections.abc import Sequence

from sagemaker_local import names
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.context import Context
from sagemaker_local.pages import fingerprint_of, page
from sagemaker_local.store import Document

# AWS's words.
NOT_OF_VERSIONS = (
    "Tags are not supported in Model Package versions. Please add them to the Model Package Group"
)
_LIMIT = 50
_KINDS = (
    names.TRAINING_JOB,
    names.TRANSFORM_JOB,
    names.PROCESSING_JOB,
    names.MODEL,
    names.MODEL_PACKAGE,
    names.MODEL_PACKAGE_GROUP,
    names.ENDPOINT_CONFIG,
    names.ENDPOINT,
)


def put(context: Context, arn: str, tags: Sequence[Document]) -> None:
    """Adds tags to a resource; a key that is there gets the new value.

    Raises:
        AwsError: Reserved keys, doubled keys or too many tags.
    """
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) != len(keys):
        raise validation(
            "Duplicate tag keys found. Please note that tag keys are case insensitive."
        )
    for key in keys:
        if key.lower().startswith("aws:"):
            raise validation("aws: prefixed tag key names are not allowed for external use.")
    with context.store.transaction():
        present = {row["key"] for row in _rows(context, arn)}
        if len(present | set(keys)) > _LIMIT:
            raise AwsError(
                "ResourceLimitExceeded", f"A resource cannot have more than {_LIMIT} tags."
            )
        context.store.execute_many(
            "INSERT OR REPLACE INTO tag (arn, key, value) VALUES (?, ?, ?)",
            [(arn, tag["Key"], tag["Value"]) for tag in tags],
        )


def insert(
    context: Context,
    kind: str,
    key: str,
    arn: str,
    request: Document,
    document: Document,
    status: str = "",
) -> bool:
    """Stores a new resource with the tags of its request; False if there is one already.

    Args:
        context: What operations work with.
        kind: The kind of resource.
        key: What the store calls it.
        arn: What its tags are stored under.
        request: That creates it.
        document: What is stored of it.
        status: See `Store.insert`.

    Raises:
        AwsError: Its tags are refused.
    """
    with context.store.transaction():
        if not context.store.insert(kind, key, document, status):
            return False
        put(context, arn, request.get("Tags", []))
    return True


def without_tags(request: Document) -> Document:
    """What a document keeps of the request that creates it: tags are stored by themselves."""
    return {member: value for member, value in request.items() if member != "Tags"}


def add(context: Context, request: Document) -> Document:
    """AddTags."""
    arn = _known(context, request["ResourceArn"])
    put(context, arn, request["Tags"])
    return {"Tags": _tags(context, arn)}


def list_tags(context: Context, request: Document) -> Document:
    """ListTags."""
    arn = _known(context, request["ResourceArn"])
    limit = request.get("MaxResults", _LIMIT)
    fingerprint = fingerprint_of("Tags", request)
    tags, token = page(_tags(context, arn), fingerprint, request.get("NextToken"), limit)
    return {"Tags": tags, "NextToken": token}


def delete(context: Context, request: Document) -> Document:
    """DeleteTags."""
    arn = _known(context, request["ResourceArn"])
    context.store.execute_many(
        "DELETE FROM tag WHERE arn = ? AND key = ?", [(arn, key) for key in request["TagKeys"]]
    )
    return {}


def _tags(context: Context, arn: str) -> list[Document]:
    return [{"Key": row["key"], "Value": row["value"]} for row in _rows(context, arn)]


def _rows(context: Context, arn: str) -> Sequence[Document]:
    rows = context.store.execute("SELECT key, value FROM tag WHERE arn = ? ORDER BY key", (arn,))
    return [dict(row) for row in rows]


def _known(context: Context, arn: str) -> str:
    """The ARN as stored, if its resource exists; SageMaker's ARNs do not mind case."""
    prefix, _, rest = arn.partition(f":{context.config.account}:")
    kind, _, name = rest.partition("/")
    expected = f"arn:aws:sagemaker:{context.config.region}"
    if prefix != expected or kind not in _KINDS:
        raise validation(f"Invalid ARN: {arn}.")
    if kind == names.MODEL_PACKAGE and "/" in name:
        raise validation(NOT_OF_VERSIONS)
    for stored_name in context.store.names(kind):
        if stored_name.lower() == name.lower():
            return names.arn(context.config, kind, stored_name)
    raise validation(f"Could not find resource {arn}.")
