"""The operations on model packages: versions of a group, which wait for approval, and unversioned.

A version is stored as `group/000000003`, so that names sort by number.
"""

import time

from sagemaker_local import identity, model_groups, names, tags
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.context import Context
from sagemaker_local.listing import list_resources
from sagemaker_local.store import Document

_KIND = names.MODEL_PACKAGE
_APPROVED = "Approved"
_MOST_PROPERTIES = 50
_MOST_SPECIFICATIONS = 15
# What UpdateModelPackage replaces as a whole.
_REPLACED = (
    "ModelApprovalStatus",
    "ApprovalDescription",
    "ModelPackageRegistrationType",
    "InferenceSpecification",
    "SourceUri",
    "ModelLifeCycle",
)
_SERVED = ("Image", "ModelDataUrl", "ModelDataSource")


def create(context: Context, request: Document) -> Document:
    """CreateModelPackage: complete at once, for nothing is validated or scanned here."""
    _check(request)
    with context.store.transaction():
        if arn := _arn_of_request(context, request.get("ClientToken")):
            return {"ModelPackageArn": arn}
        document = _document(context, request)
        arn = document["ModelPackageArn"]
        status = document.get("ModelApprovalStatus", "")
        if not tags.insert(context, _KIND, _key(context, arn), arn, request, document, status):
            raise validation(f"ModelPackage already exists: {arn}")
    return {"ModelPackageArn": arn}


def _document(context: Context, request: Document) -> Document:
    """A new package; a version gets its number here."""
    now = time.time()
    document: Document = {
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": "PendingManualApproval",
        **tags.without_tags(request),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CreationTime": now,
        "LastModifiedTime": now,
        "CreatedBy": identity.user_context(context.config),
    }
    if "ModelPackageGroupName" in request:
        group, version = model_groups.add_version(context, request["ModelPackageGroupName"])
        document |= {"ModelPackageGroupName": group, "ModelPackageVersion": version}
        name = f"{group}/{version}"
    else:
        # The SDK v2 sends one, which does not apply to a package without versions.
        del document["ModelApprovalStatus"]
        name = request["ModelPackageName"]
    return document | {"ModelPackageArn": names.arn(context.config, _KIND, name)}


def describe(context: Context, request: Document) -> Document:
    """DescribeModelPackage."""
    return _stored(context, request["ModelPackageName"])


def list_packages(context: Context, request: Document) -> Document:
    """ListModelPackages: of a group, else the unversioned ones if no type is asked for."""
    asked = dict(request)
    if "ModelPackageGroupName" in asked:
        asked["ModelPackageGroupName"] = model_groups.key(context, asked["ModelPackageGroupName"])
    else:
        asked.setdefault("ModelPackageType", "Unversioned")
    if asked.get("ModelPackageType") == "Both":
        del asked["ModelPackageType"]
    member = "ModelPackageSummaryList"
    return list_resources(context, _KIND, asked, member, descending=False)


def update(context: Context, request: Document) -> Document:
    """UpdateModelPackage: approves or rejects a version, and changes what is known of it."""
    arn = request["ModelPackageArn"]

    def change(document: Document) -> str:
        if "ModelPackageVersion" not in document:
            raise validation(f"ModelPackage {arn} is not versioned and cannot be updated.")
        document.update({member: request[member] for member in _REPLACED if member in request})
        if "ModelCard" in request:
            document["ModelCard"] = document.get("ModelCard", {}) | request["ModelCard"]
        _change_lists(document, request)
        document["LastModifiedBy"] = identity.user_context(context.config)
        return document["ModelApprovalStatus"]

    document = context.store.update(_KIND, _key(context, arn), change)
    if document is None:
        raise _missing(context, arn)
    return {"ModelPackageArn": document["ModelPackageArn"]}


def delete(context: Context, request: Document) -> Document:
    """DeleteModelPackage: models made from it go on with what they took from it."""
    arn = _stored(context, request["ModelPackageName"])["ModelPackageArn"]
    context.store.delete(_KIND, _key(context, arn), arn)
    return {}


def container(context: Context, given: Document) -> Document:
    """What a container of CreateModel is made of, where it names a package: that of the package.

    Args:
        context: What operations work with.
        given: The `ContainerDefinition`; its environment is added to that of the package.

    Raises:
        AwsError: There is no such package, it is not approved, or it does not say what to serve.
    """
    if "ModelPackageName" not in given:
        return given
    if any(member in given for member in _SERVED):
        raise validation(
            "Specify one of either Image and Model Data URL or ModelPackageName in container "
            "definition."
        )
    package = _stored(context, given["ModelPackageName"])
    arn = package["ModelPackageArn"]
    # An unversioned package has no such status and needs none.
    status = package.get("ModelApprovalStatus", _APPROVED)
    if status != _APPROVED:
        raise validation(
            f"ModelPackage {arn} cannot be deployed: its ModelApprovalStatus is {status}. It must "
            f"be {_APPROVED}, which UpdateModelPackage sets."
        )
    containers = _specification(package, given.get("InferenceSpecificationName"))["Containers"]
    if len(containers) > 1:
        raise validation("Inference pipelines are not supported.")
    served = {member: containers[0][member] for member in _SERVED if member in containers[0]}
    environment = containers[0].get("Environment", {}) | given.get("Environment", {})
    return {**served, "Environment": environment}


def _specification(package: Document, name: str | None) -> Document:
    if name is None:
        specifications = [package.get("InferenceSpecification")]
    else:
        additional = package.get("AdditionalInferenceSpecifications") or []
        specifications = [item for item in additional if item["Name"] == name]
    if not specifications or not specifications[0]:
        wanted = "InferenceSpecification" if name is None else f"inference specification {name}"
        raise validation(f"ModelPackage {package['ModelPackageArn']} has no {wanted}.")
    return specifications[0]


def _check(request: Document) -> None:
    versioned = "ModelPackageGroupName" in request
    if versioned and "ModelPackageName" in request:
        raise validation(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot "
            "determine which one to use."
        )
    if not versioned and "ModelPackageName" not in request:
        raise validation("Missing ARN.")
    if "SourceAlgorithmSpecification" in request:
        (algorithm,) = request["SourceAlgorithmSpecification"]["SourceAlgorithms"]
        raise validation(f'Could not find algorithm "{algorithm["AlgorithmName"]}".')
    _check_names(request.get("AdditionalInferenceSpecifications", []))
    if not versioned:
        _check_unversioned(request)
        return
    if request.get("Tags"):
        raise validation(tags.NOT_OF_VERSIONS)
    if "InferenceSpecification" not in request and request.get("SourceUri", "").startswith("arn:"):
        raise validation(
            f"The InferenceSpecification of {request['SourceUri']} is not copied here: give an "
            "InferenceSpecification beside SourceUri."
        )


def _check_unversioned(request: Document) -> None:
    specification = request.get("InferenceSpecification")
    if not specification:
        raise validation("InferenceSpecification is required for an unversioned model package.")
    for member in ("SupportedTransformInstanceTypes", "SupportedRealtimeInferenceInstanceTypes"):
        if member not in specification:
            raise validation(f"{member} is required for an unversioned model package.")
    if any(item.get("Environment") for item in specification["Containers"]):
        raise validation(
            "1 validation errors detected:Environment variable map cannot be specified when using "
            "non-versioned ModelPackages"
        )


def _check_names(specifications: list[Document]) -> None:
    wanted = [specification["Name"] for specification in specifications]
    if len(set(wanted)) < len(wanted):
        raise validation(
            f"The names of additional inference specifications must be unique: {', '.join(wanted)}."
        )


def _change_lists(document: Document, request: Document) -> None:
    """Adds and removes customer metadata, adds inference specifications; empty ones are absent."""
    properties = document.get("CustomerMetadataProperties") or {}
    properties |= request.get("CustomerMetadataProperties", {})
    for name in request.get("CustomerMetadataPropertiesToRemove", []):
        properties.pop(name, None)
    specifications = document.get("AdditionalInferenceSpecifications") or []
    specifications += request.get("AdditionalInferenceSpecificationsToAdd", [])
    if len(properties) > _MOST_PROPERTIES or len(specifications) > _MOST_SPECIFICATIONS:
        raise validation(
            f"A model package can have at most {_MOST_PROPERTIES} customer metadata properties and "
            f"{_MOST_SPECIFICATIONS} additional inference specifications."
        )
    _check_names(specifications)
    document["CustomerMetadataProperties"] = properties or None
    document["AdditionalInferenceSpecifications"] = specifications or None


def _arn_of_request(context: Context, token: str | None) -> str | None:
    """The ARN of the package that the same request has made; botocore sends a token with each."""
    rows = context.store.execute(
        "SELECT json_extract(document, '$.ModelPackageArn') AS arn FROM resource"
        " WHERE kind = ? AND json_extract(document, '$.ClientToken') = ?",
        (_KIND, token),
    )
    return rows[0]["arn"] if rows else None


def _stored(context: Context, name_or_arn: str) -> Document:
    document = context.store.get(_KIND, _key(context, name_or_arn))
    if document is None:
        raise _missing(context, name_or_arn)
    return document


def _missing(context: Context, name_or_arn: str) -> AwsError:
    arn = names.address(context.config, _KIND, name_or_arn)
    return validation(f"ModelPackage {arn} does not exist.")


def _key(context: Context, name_or_arn: str) -> str:
    """What the store calls a package."""
    group, _, version = names.key(context.config, _KIND, name_or_arn).partition("/")
    return f"{group}/{version:0>9}" if version else group
