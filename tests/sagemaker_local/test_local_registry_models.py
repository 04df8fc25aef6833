"""Models made from packages of the model registry, and what the registry refuses."""

import json
from typing import Any

import pytest

from tests.sagemaker_local.rig import IMAGE, ROLE, Server, blobs, refusal, unique, variant
from tests.sagemaker_local.test_local_contract_serving import IMAGE as OWN_IMAGE
from tests.sagemaker_local.test_local_contract_serving import ask
from tests.sagemaker_local.test_local_errors import filled
from tests.sagemaker_local.test_local_registry import (
    ARN,
    INSTANCES,
    METRICS,
    NOWHERE,
    approve,
    new_group,
    register,
    specification,
    version_arn,
)

NO_TAGS = (
    "Tags are not supported in Model Package versions. Please add them to the Model Package Group"
)


def model_of(server: Server, package: str, **more: Any) -> str:
    """The name of a new model of a package."""
    name = unique("of-package")
    container = {"ModelPackageName": package, **more}
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected"])
def test_only_an_approved_version_becomes_a_model(
    server: Server, trained: str, status: str
) -> None:
    arn = register(server, new_group(server), trained, ModelApprovalStatus=status)
    error = refusal(lambda: model_of(server, arn))["Error"]
    assert error["Code"] == "ValidationException"
    assert arn in error["Message"]
    assert f"its ModelApprovalStatus is {status}" in error["Message"]
    approve(server, arn)
    model_of(server, arn)
    approve(server, arn, status)
    assert refusal(lambda: model_of(server, arn))["Error"] == error


def test_an_unversioned_package_needs_no_approval(server: Server, trained: str) -> None:
    name = unique("Single")
    created = server.sagemaker.create_model_package(
        ModelPackageName=name, InferenceSpecification=specification(trained, **INSTANCES)
    )
    assert created["ModelPackageArn"] == f"{ARN}:model-package/{name.lower()}"
    for given in (name, created["ModelPackageArn"]):
        described = server.sagemaker.describe_model_package(ModelPackageName=given)
        assert described["ModelPackageName"] == name
        assert not {"ModelPackageVersion", "ModelApprovalStatus"} & set(described)
    model_of(server, name)
    server.sagemaker.delete_model_package(ModelPackageName=name)
    error = refusal(lambda: server.sagemaker.describe_model_package(ModelPackageName=name))
    assert "does not exist" in error["Error"]["Message"]


def test_a_model_is_trained_registered_approved_and_served(
    server: Server, trained: str, endpoint: str
) -> None:
    """It answers as the same artifact does without a package, which it needs no longer."""
    arn = register(server, new_group(server), trained, ModelMetrics=METRICS)
    refusal(lambda: model_of(server, arn))
    approve(server, arn, ApprovalDescription="looks good")
    model = model_of(server, arn)
    container = server.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]
    assert container == {"ModelPackageName": arn}
    approve(server, arn, "Rejected")
    server.sagemaker.delete_model_package(ModelPackageName=arn)
    registered = server.deploy(unique("c"), variant(model))
    (deployed,) = server.sagemaker.describe_endpoint(EndpointName=registered)["ProductionVariants"]
    assert deployed["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    points, _ = blobs(50, seed=3)
    assert server.predict(registered, points) == server.predict(endpoint, points)
    server.sagemaker.delete_endpoint(EndpointName=registered)


def test_a_container_gets_the_environment_of_the_package_and_of_the_model(
    image_server: Server,
) -> None:
    """Of the inference specification that the model names, and the model's own word counts."""
    group = new_group(image_server)
    environment = {"FIRST": "package", "SECOND": "package"}
    own = {"Name": "own", "Containers": [{"Image": OWN_IMAGE, "Environment": environment}]}
    approved = {"ModelApprovalStatus": "Approved"}
    register(image_server, group, AdditionalInferenceSpecifications=[own], **approved)
    name = unique("own")
    container = {
        "ModelPackageName": f"{group}/1",
        "InferenceSpecificationName": "own",
        "Environment": {"SECOND": "model"},
    }
    image_server.sagemaker.create_model(
        ModelName=name, Containers=[container], ExecutionRoleArn=ROLE
    )
    endpoint = image_server.deploy(unique("c"), variant(name))
    seen = json.loads(ask(image_server, endpoint))["environment"]
    assert (seen["FIRST"], seen["SECOND"]) == ("package", "model")
    image_server.sagemaker.delete_endpoint(EndpointName=endpoint)


GROUP_GONE = f"ModelPackageGroup {ARN}:model-package-group/none does not exist."
PACKAGE_GONE = f"ModelPackage {ARN}:model-package/none does not exist."
ELSEWHERE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/none/1"
ENVIRONMENT = {"Containers": [{"Image": IMAGE, "Environment": {"A": "1"}}], **INSTANCES}
TWICE = [{"Name": "one", "Containers": [{"Image": IMAGE}]}] * 2
ALGORITHM = {"SourceAlgorithms": [{"AlgorithmName": "none"}]}


def created(**container: Any) -> dict[str, Any]:
    """A CreateModel request."""
    return {"ModelName": "refused", "ExecutionRoleArn": ROLE, "PrimaryContainer": container}


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "group-exists": (
        "create_model_package_group",
        {"ModelPackageGroupName": "{group}"},
        "Model Package Group already exists: " + ARN + ":model-package-group/{key}",
    ),
    "group-name": (
        "create_model_package_group",
        {"ModelPackageGroupName": "a_b"},
        "Value 'a_b' at 'modelPackageGroupName' failed to satisfy constraint",
    ),
    "describe-group": (
        "describe_model_package_group",
        {"ModelPackageGroupName": "none"},
        GROUP_GONE,
    ),
    "delete-group": ("delete_model_package_group", {"ModelPackageGroupName": "none"}, GROUP_GONE),
    "no-name": (
        "create_model_package",
        {"InferenceSpecification": specification()},
        "Missing ARN.",
    ),
    "two-names": (
        "create_model_package",
        {"ModelPackageName": "a", "ModelPackageGroupName": "{group}"},
        "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot "
        "determine which one to use.",
    ),
    "no-group": (
        "create_model_package",
        {"ModelPackageGroupName": "none", "InferenceSpecification": specification()},
        "Model Package Group does not exist.",
    ),
    "version-with-tags": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "Tags": [{"Key": "a", "Value": "b"}]},
        NO_TAGS,
    ),
    "algorithm": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "SourceAlgorithmSpecification": ALGORITHM},
        'Could not find algorithm "none".',
    ),
    "copy": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "SourceUri": "{version}"},
        "The InferenceSpecification of {version} is not copied here",
    ),
    "status": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "ModelApprovalStatus": "Perhaps"},
        "Value 'Perhaps' at 'modelApprovalStatus' failed to satisfy constraint: Member must "
        "satisfy enum value set: [Approved, Rejected, PendingManualApproval]",
    ),
    "no-containers": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "InferenceSpecification": {"Containers": []}},
        "at 'inferenceSpecification.containers' failed to satisfy constraint: Member must have "
        "length greater than or equal to 1",
    ),
    "property": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "CustomerMetadataProperties": {"a!": "b"}},
        "at 'customerMetadataProperties' failed to satisfy constraint: Map keys must satisfy",
    ),
    "unversioned-exists": (
        "create_model_package",
        {"ModelPackageName": "{single}", "InferenceSpecification": specification(**INSTANCES)},
        "ModelPackage already exists: " + ARN + ":model-package/{single}",
    ),
    "unversioned-without": (
        "create_model_package",
        {"ModelPackageName": "a"},
        "InferenceSpecification is required",
    ),
    "unversioned-instances": (
        "create_model_package",
        {"ModelPackageName": "a", "InferenceSpecification": specification()},
        "SupportedTransformInstanceTypes is required for an unversioned model package.",
    ),
    "unversioned-environment": (
        "create_model_package",
        {"ModelPackageName": "a", "InferenceSpecification": ENVIRONMENT},
        "Environment variable map cannot be specified when using non-versioned ModelPackages",
    ),
    "specifications-of-one-name": (
        "create_model_package",
        {"ModelPackageGroupName": "{group}", "AdditionalInferenceSpecifications": TWICE},
        "The names of additional inference specifications must be unique: one, one.",
    ),
    "describe": ("describe_model_package", {"ModelPackageName": "none"}, PACKAGE_GONE),
    "describe-group-as-package": (
        "describe_model_package",
        {"ModelPackageName": "{group}"},
        "ModelPackage " + ARN + ":model-package/{key} does not exist.",
    ),
    "describe-elsewhere": (
        "describe_model_package",
        {"ModelPackageName": ELSEWHERE},
        f"ModelPackage {ELSEWHERE} does not exist.",
    ),
    "describe-other-version": (
        "describe_model_package",
        {"ModelPackageName": "{group}/10"},
        "ModelPackage " + ARN + ":model-package/{key}/10 does not exist.",
    ),
    "delete": ("delete_model_package", {"ModelPackageName": "none"}, PACKAGE_GONE),
    "update": (
        "update_model_package",
        {"ModelPackageArn": f"{ARN}:model-package/none", "ModelApprovalStatus": "Approved"},
        PACKAGE_GONE,
    ),
    "update-by-name": (
        "update_model_package",
        {"ModelPackageArn": "none", "ModelApprovalStatus": "Approved"},
        "Value 'none' at 'modelPackageArn' failed to satisfy constraint",
    ),
    "update-unversioned": (
        "update_model_package",
        {"ModelPackageArn": ARN + ":model-package/{single}", "ModelApprovalStatus": "Approved"},
        "is not versioned and cannot be updated",
    ),
    "update-with-a-specification-of-one-name": (
        "update_model_package",
        {"ModelPackageArn": "{version}", "AdditionalInferenceSpecificationsToAdd": TWICE},
        "The names of additional inference specifications must be unique: one, one.",
    ),
    "list-status": (
        "list_model_packages",
        {"ModelApprovalStatus": "Perhaps"},
        "Value 'Perhaps' at 'modelApprovalStatus' failed to satisfy constraint",
    ),
    "list-token": ("list_model_packages", {"NextToken": "nonsense"}, "Invalid NextToken"),
    "tags-of-version": ("list_tags", {"ResourceArn": "{version}"}, NO_TAGS),
    "model-without-package": ("create_model", created(ModelPackageName="none"), PACKAGE_GONE),
    "model-with-both": (
        "create_model",
        created(ModelPackageName="{single}", Image=IMAGE),
        "Specify one of either Image and Model Data URL or ModelPackageName in container "
        "definition.",
    ),
    "model-other-specification": (
        "create_model",
        created(ModelPackageName="{single}", InferenceSpecificationName="other"),
        "has no inference specification other.",
    ),
    "model-without-data": (
        "create_model",
        created(ModelPackageName="{single}"),
        f"Could not find model data at {NOWHERE}.",
    ),
}


@pytest.fixture(scope="module")
def names(server: Server) -> dict[str, str]:
    """A group with one version, and an unversioned package."""
    group, single = new_group(server), unique("single")
    server.sagemaker.create_model_package(
        ModelPackageName=single, InferenceSpecification=specification(**INSTANCES)
    )
    version = register(server, group)
    return {"group": group, "key": group.lower(), "version": version, "single": single}


@pytest.mark.parametrize("case", CASES)
def test_refusals_have_the_code_and_the_message_of_aws(
    server: Server, names: dict[str, str], case: str
) -> None:
    operation, given, words = CASES[case]
    error = refusal(lambda: getattr(server.sagemaker, operation)(**filled(given, names)))
    assert error["Error"]["Code"] == "ValidationException", error["Error"]
    assert filled(words, names) in error["Error"]["Message"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_refused_version_takes_no_number(server: Server) -> None:
    group = new_group(server)
    refusal(lambda: register(server, group, ModelApprovalStatus="Perhaps"))
    refusal(lambda: register(server, group, Tags=[{"Key": "a", "Value": "b"}]))
    assert register(server, group) == version_arn(group, 1)
