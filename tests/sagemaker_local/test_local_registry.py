"""The model registry: groups, versions that wait for approval, and models made from packages."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sagemaker_local.rig import (
    IMAGE,
    ROLE,
    Server,
    blobs,
    refusal,
    unique,
    variant,
)
from tests.sagemaker_local.test_local_contract_serving import IMAGE as OWN_IMAGE
from tests.sagemaker_local.test_local_contract_serving import ask
from tests.sagemaker_local.test_local_errors import filled

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
NOWHERE = "s3://no-such-bucket/model.tar.gz"
INSTANCES: dict[str, Any] = {
    "SupportedTransformInstanceTypes": ["ml.m5.large"],
    "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
}
NO_TAGS = (
    "Tags are not supported in Model Package versions. Please add them to the Model Package Group"
)
METRICS = {
    "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": "s3://b/q.json"}}
}


def specification(url: str = NOWHERE, image: str = IMAGE, **more: Any) -> dict[str, Any]:
    """An InferenceSpecification of one container."""
    return {
        "Containers": [{"Image": image, "ModelDataUrl": url}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
        **more,
    }


def new_group(server: Server, **more: Any) -> str:
    """The name of a new group; it has a capital, which its ARN has not."""
    name = unique("Group")
    server.sagemaker.create_model_package_group(ModelPackageGroupName=name, **more)
    return name


def register(server: Server, group: str, url: str = NOWHERE, **more: Any) -> str:
    """The ARN of a new version."""
    request = {"InferenceSpecification": specification(url), **more}
    answer = server.sagemaker.create_model_package(ModelPackageGroupName=group, **request)
    return answer["ModelPackageArn"]


def version_arn(group: str, version: int) -> str:
    return f"{ARN}:model-package/{group.lower()}/{version}"


def approve(server: Server, arn: str, status: str = "Approved", **more: Any) -> None:
    server.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, **more)


def model_of(server: Server, package: str, **more: Any) -> str:
    """The name of a new model of a package."""
    name = unique("of-package")
    container = {"ModelPackageName": package, **more}
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


def listed(server: Server, **request: Any) -> list[dict[str, Any]]:
    pages = server.sagemaker.get_paginator("list_model_packages").paginate(**request)
    return [package for page in pages for package in page["ModelPackageSummaryList"]]


def versions(server: Server, **request: Any) -> list[int]:
    return [package["ModelPackageVersion"] for package in listed(server, **request)]


def test_versions_count_up_in_their_group_and_are_never_given_again(server: Server) -> None:
    group, other = new_group(server), new_group(server)
    assert [register(server, group) for _ in range(3)] == [
        version_arn(group, number) for number in (1, 2, 3)
    ]
    assert register(server, other) == version_arn(other, 1)
    server.sagemaker.delete_model_package(ModelPackageName=version_arn(group, 3))
    assert register(server, group) == version_arn(group, 4)
    for number in (1, 2, 4):
        server.sagemaker.delete_model_package(ModelPackageName=f"{group}/{number}")
    assert listed(server, ModelPackageGroupName=group) == []
    assert register(server, group) == version_arn(group, 5)


def test_versions_that_are_registered_at_once_get_numbers_of_their_own(server: Server) -> None:
    group = new_group(server)
    with ThreadPoolExecutor(8) as pool:
        arns = list(pool.map(lambda _: register(server, group), range(8)))
    assert sorted(arns) == [version_arn(group, number) for number in range(1, 9)]


def test_a_request_that_is_sent_again_makes_no_second_version(server: Server) -> None:
    """A client that got no answer sends its token again."""
    group, token = new_group(server), unique()
    arns = {register(server, group, ClientToken=token) for _ in range(2)}
    assert arns == {version_arn(group, 1)}
    assert register(server, group) == version_arn(group, 2)


def test_a_group_is_described_by_its_name_and_by_its_arn(server: Server) -> None:
    group = new_group(server, ModelPackageGroupDescription="digits")
    arn = f"{ARN}:model-package-group/{group.lower()}"
    for name in (group, arn):
        described = server.sagemaker.describe_model_package_group(ModelPackageGroupName=name)
        assert described["ModelPackageGroupName"] == group
        assert described["ModelPackageGroupArn"] == arn
        assert described["ModelPackageGroupDescription"] == "digits"
        assert described["ModelPackageGroupStatus"] == "Completed"
        assert described["CreatedBy"]["IamIdentity"]["Arn"].startswith("arn:aws:iam::123456789012:")


def test_a_version_is_described_as_it_was_registered(server: Server) -> None:
    group = new_group(server)
    given = {
        "InferenceSpecification": specification(**INSTANCES),
        "ModelPackageDescription": "the first",
        "ModelMetrics": METRICS,
        "CustomerMetadataProperties": {"accuracy": "0.9", "run": "a/b:c"},
        "MetadataProperties": {"CommitId": "abc", "GeneratedBy": "a pipeline"},
        "Domain": "COMPUTER_VISION",
        "Task": "CLASSIFICATION",
    }
    arn = register(server, f"{ARN}:model-package-group/{group.lower()}", **given)
    for name in (arn, f"{group}/1"):
        described = server.sagemaker.describe_model_package(ModelPackageName=name)
        assert {member: described[member] for member in given} == given
        assert described["ModelPackageArn"] == version_arn(group, 1)
        assert (described["ModelPackageGroupName"], described["ModelPackageVersion"]) == (group, 1)
        assert described["ModelApprovalStatus"] == "PendingManualApproval"
        assert described["ModelPackageStatus"] == "Completed"
        assert described["ModelPackageStatusDetails"]["ValidationStatuses"] == []
        assert described["CertifyForMarketplace"] is False
        assert "ModelPackageName" not in described


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


def test_an_approval_says_who_when_and_why(server: Server) -> None:
    arn = register(server, new_group(server))
    before = server.sagemaker.describe_model_package(ModelPackageName=arn)
    assert "LastModifiedBy" not in before
    approve(server, arn, ApprovalDescription="0.1 better than version 4")
    after = server.sagemaker.describe_model_package(ModelPackageName=arn)
    assert after["ModelApprovalStatus"] == "Approved"
    assert after["ApprovalDescription"] == "0.1 better than version 4"
    who = server.client("sts").get_caller_identity()
    assert after["LastModifiedBy"]["IamIdentity"] == {
        "Arn": who["Arn"],
        "PrincipalId": who["UserId"],
    }
    assert after["LastModifiedTime"] > before["LastModifiedTime"]
    assert after["CreationTime"] == before["CreationTime"]


def test_updates_change_what_they_name_and_leave_the_rest(server: Server) -> None:
    arn = register(server, new_group(server), CustomerMetadataProperties={"a": "1", "b": "2"})

    def updated(**changes: Any) -> dict[str, Any]:
        server.sagemaker.update_model_package(ModelPackageArn=arn, **changes)
        return server.sagemaker.describe_model_package(ModelPackageName=arn)

    described = updated(
        CustomerMetadataProperties={"b": "3", "c": "4"}, CustomerMetadataPropertiesToRemove=["a"]
    )
    assert described["CustomerMetadataProperties"] == {"b": "3", "c": "4"}
    assert described["ModelApprovalStatus"] == "PendingManualApproval"
    described = updated(CustomerMetadataPropertiesToRemove=["b", "c", "none"])
    assert "CustomerMetadataProperties" not in described
    changed = specification("s3://b/other.tar.gz")
    described = updated(InferenceSpecification=changed, SourceUri="s3://b/source")
    assert described["InferenceSpecification"] == changed
    assert described["SourceUri"] == "s3://b/source"
    card = {"ModelCardContent": "{}", "ModelCardStatus": "Draft"}
    updated(ModelCard=card)
    described = updated(ModelCard={"ModelCardStatus": "Approved"})
    assert described["ModelCard"] == card | {"ModelCardStatus": "Approved"}
    for name in ("one", "two"):
        more = [{"Name": name, "Containers": [{"Image": IMAGE}]}]
        described = updated(AdditionalInferenceSpecificationsToAdd=more)
    additional = described["AdditionalInferenceSpecifications"]
    assert [item["Name"] for item in additional] == ["one", "two"]


def test_a_version_has_at_most_50_properties(server: Server) -> None:
    most = {f"key-{number}": "value" for number in range(50)}
    arn = register(server, new_group(server), CustomerMetadataProperties=most)
    update = server.sagemaker.update_model_package
    one_more = {"one-more": "value"}
    error = refusal(lambda: update(ModelPackageArn=arn, CustomerMetadataProperties=one_more))
    assert "at most 50 customer metadata properties" in error["Error"]["Message"]
    update(
        ModelPackageArn=arn,
        CustomerMetadataProperties=one_more,
        CustomerMetadataPropertiesToRemove=["key-0"],
    )


def test_versions_are_listed_by_group_status_and_order(server: Server) -> None:
    """Eleven: by name, too, the tenth comes after the ninth."""
    group = new_group(server)
    arns = [register(server, group) for _ in range(11)]
    register(server, new_group(server))
    everything = list(range(1, 12))
    assert versions(server, ModelPackageGroupName=group) == everything
    of_arn = f"{ARN}:model-package-group/{group.lower()}"
    assert versions(server, ModelPackageGroupName=of_arn) == everything
    for key in ("Name", "CreationTime"):
        for size in (2, 100):
            request = {"ModelPackageGroupName": group, "SortBy": key, "MaxResults": size}
            assert versions(server, SortOrder="Ascending", **request) == everything
            assert versions(server, SortOrder="Descending", **request) == everything[::-1]
    approve(server, arns[1])
    approve(server, arns[9])
    approve(server, arns[4], "Rejected")
    of_status = {
        status: versions(server, ModelPackageGroupName=group, ModelApprovalStatus=status)
        for status in ("Approved", "Rejected")
    }
    assert of_status == {"Approved": [2, 10], "Rejected": [5]}
    (newest,) = server.sagemaker.list_model_packages(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )["ModelPackageSummaryList"]
    assert newest["ModelPackageArn"] == arns[9]
    assert newest["ModelPackageGroupName"] == group
    assert "ModelPackageName" not in newest


def test_packages_are_listed_by_type_and_name(server: Server) -> None:
    """Unversioned ones where no type is asked for; a version's number is no part of its name."""
    group = new_group(server)
    register(server, group)
    single = f"{group}-single"
    server.sagemaker.create_model_package(
        ModelPackageName=single, InferenceSpecification=specification(**INSTANCES)
    )
    versioned, unversioned = version_arn(group, 1), f"{ARN}:model-package/{single.lower()}"

    def arns(**request: Any) -> set[str]:
        return {package["ModelPackageArn"] for package in listed(server, **request)}

    part = group.upper()
    assert arns(NameContains=part) == {unversioned}
    assert arns(NameContains=part, ModelPackageType="Unversioned") == {unversioned}
    assert arns(NameContains=part, ModelPackageType="Versioned") == {versioned}
    assert arns(NameContains=part, ModelPackageType="Both") == {versioned, unversioned}
    assert arns(NameContains="000000001", ModelPackageType="Versioned") == set()


def test_groups_are_listed_in_pages(server: Server) -> None:
    prefix = unique("Many")
    groups = [f"{prefix}-{number}" for number in (2, 0, 1)]
    for name in groups:
        server.sagemaker.create_model_package_group(ModelPackageGroupName=name)

    def group_names(**request: Any) -> list[str]:
        pager = server.sagemaker.get_paginator("list_model_package_groups")
        return [
            group["ModelPackageGroupName"]
            for page in pager.paginate(NameContains=prefix, **request)
            for group in page["ModelPackageGroupSummaryList"]
        ]

    assert group_names() == group_names(MaxResults=2) == groups
    assert group_names(SortBy="Name", SortOrder="Descending") == sorted(groups, reverse=True)
    assert group_names(CrossAccountFilterOption="CrossAccount") == []


def test_groups_and_unversioned_packages_have_tags_until_they_are_deleted(server: Server) -> None:
    client = server.sagemaker
    name = unique("tagged")
    tag = {"Key": "team", "Value": "digits"}

    def create(**more: Any) -> tuple[str, str]:
        group = client.create_model_package_group(ModelPackageGroupName=name, **more)
        package = client.create_model_package(
            ModelPackageName=name, InferenceSpecification=specification(**INSTANCES), **more
        )
        return group["ModelPackageGroupArn"], package["ModelPackageArn"]

    arns = create(Tags=[tag])
    for arn in arns:
        client.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": ""}])
        client.delete_tags(ResourceArn=arn, TagKeys=["more"])
        assert client.list_tags(ResourceArn=arn)["Tags"] == [tag]
    client.delete_model_package(ModelPackageName=name)
    client.delete_model_package_group(ModelPackageGroupName=name)
    assert create() == arns
    for arn in arns:
        assert client.list_tags(ResourceArn=arn)["Tags"] == []


def test_a_group_is_deleted_once_it_is_empty(server: Server) -> None:
    client = server.sagemaker
    group = new_group(server)
    register(server, group)
    # A group whose name begins alike has nothing to do with it.
    client.create_model_package_group(ModelPackageGroupName=group[:-1])
    client.delete_model_package_group(ModelPackageGroupName=group[:-1])
    with pytest.raises(client.exceptions.ConflictException, match="it has model packages"):
        client.delete_model_package_group(ModelPackageGroupName=group)
    client.delete_model_package(ModelPackageName=f"{group}/1")
    client.delete_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(client.exceptions.ClientError, match=r"does not exist\."):
        client.describe_model_package_group(ModelPackageGroupName=group)


GROUP_GONE = f"ModelPackageGroup {ARN}:model-package-group/none does not exist."
PACKAGE_GONE = f"ModelPackage {ARN}:model-package/none does not exist."
ELSEWHERE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/none/1"
ENVIRONMENT = {"Containers": [{"Image": IMAGE, "Environment": {"A": "1"}}], **INSTANCES}
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
    contract_server: Server,
) -> None:
    """Of the inference specification that the model names, and the model's own word counts."""
    group = new_group(contract_server)
    environment = {"FIRST": "package", "SECOND": "package"}
    own = {"Name": "own", "Containers": [{"Image": OWN_IMAGE, "Environment": environment}]}
    approved = {"ModelApprovalStatus": "Approved"}
    register(contract_server, group, AdditionalInferenceSpecifications=[own], **approved)
    name = unique("own")
    container = {
        "ModelPackageName": f"{group}/1",
        "InferenceSpecificationName": "own",
        "Environment": {"SECOND": "model"},
    }
    contract_server.sagemaker.create_model(
        ModelName=name, Containers=[container], ExecutionRoleArn=ROLE
    )
    endpoint = contract_server.deploy(unique("c"), variant(name))
    seen = json.loads(ask(contract_server, endpoint))["environment"]
    assert (seen["FIRST"], seen["SECOND"]) == ("package", "model")
    contract_server.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_a_killed_server_has_lost_nothing_of_the_registry(own_server: Server) -> None:
    own_server.start()
    client = own_server.sagemaker
    tags = [{"Key": "a", "Value": "b"}]
    group = new_group(own_server, Tags=tags)
    arns = [register(own_server, group, CustomerMetadataProperties={"a": "b"}) for _ in range(2)]
    approve(own_server, arns[0], ApprovalDescription="good")
    client.delete_model_package(ModelPackageName=arns[1])

    def state() -> list[Any]:
        of_group = client.describe_model_package_group(ModelPackageGroupName=group)
        of_version = client.describe_model_package(ModelPackageName=arns[0])
        kept_tags = client.list_tags(ResourceArn=of_group["ModelPackageGroupArn"])["Tags"]
        for answer in (of_group, of_version):
            del answer["ResponseMetadata"]
        return [of_group, of_version, kept_tags, versions(own_server, ModelPackageGroupName=group)]

    before = state()
    own_server.kill()
    own_server.start()
    assert state() == before
    assert before[2:] == [tags, [1]]
    assert register(own_server, group) == version_arn(group, 3)
