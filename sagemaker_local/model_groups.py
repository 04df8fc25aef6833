"""The operations on model package groups, whose versions are in model_packages.

The store knows the registry's resources by the last part of their ARN, in lower case.
"""

import time

from sagemaker_local import identity, names, tags
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.context import Context
from sagemaker_local.listing import list_resources
from sagemaker_local.store import Document

_KIND = names.MODEL_PACKAGE_GROUP
_STATUS = "Completed"


def create(context: Context, request: Document) -> Document:
    """CreateModelPackageGroup."""
    name = request["ModelPackageGroupName"]
    arn = names.arn(context.config, _KIND, name)
    document: Document = {
        **tags.without_tags(request),
        "ModelPackageGroupArn": arn,
        "ModelPackageGroupStatus": _STATUS,
        "CreationTime": time.time(),
        "CreatedBy": identity.user_context(context.config),
        "_versions": 0,
    }
    if not tags.insert(context, _KIND, name.lower(), arn, request, document, _STATUS):
        raise validation(f"Model Package Group already exists: {arn}")
    return {"ModelPackageGroupArn": arn}


def describe(context: Context, request: Document) -> Document:
    """DescribeModelPackageGroup."""
    name = request["ModelPackageGroupName"]
    document = context.store.get(_KIND, key(context, name))
    if document is None:
        arn = names.address(context.config, _KIND, name)
        raise validation(f"ModelPackageGroup {arn} does not exist.")
    return document


def list_groups(context: Context, request: Document) -> Document:
    """ListModelPackageGroups."""
    member = "ModelPackageGroupSummaryList"
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        return {member: []}
    return list_resources(context, _KIND, request, member, descending=False)


def delete(context: Context, request: Document) -> Document:
    """DeleteModelPackageGroup: a group has to be empty."""
    with context.store.transaction():
        arn = describe(context, request)["ModelPackageGroupArn"]
        name = key(context, arn)
        packages = context.store.names(names.MODEL_PACKAGE)
        if any(package.startswith(f"{name}/") for package in packages):
            raise AwsError(
                "ConflictException",
                f"Cannot delete Model Package Group {arn}: it has model packages. Delete these "
                "first.",
            )
        context.store.delete(_KIND, name, arn)
    return {}


def add_version(context: Context, name_or_arn: str) -> tuple[str, int]:
    """Counts up the versions of a group; a number is never given twice.

    Args:
        context: What operations work with.
        name_or_arn: The group's.

    Returns:
        The group's name and the new version's number.

    Raises:
        AwsError: There is no such group.
    """

    def count(document: Document) -> str:
        document["_versions"] += 1
        return _STATUS

    group = context.store.update(_KIND, key(context, name_or_arn), count)
    if group is None:
        raise validation("Model Package Group does not exist.")
    return group["ModelPackageGroupName"], group["_versions"]


def key(context: Context, name_or_arn: str) -> str:
    """What the store calls a group."""
    return names.key(context.config, _KIND, name_or_arn)
