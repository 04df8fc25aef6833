"""The model registry: groups, their versions and how these change, lists and tags."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sagemaker_local.rig import IMAGE, Server, refusal, unique

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
NOWHERE = "s3://no-such-bucket/model.tar.gz"
INSTANCES: dict[str, Any] = {
    "SupportedTransformInstanceTypes": ["ml.m5.large"],
    "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
}
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
    by_time = versions(server, ModelPackageGroupName=group, SortBy="CreationTime")
    assert by_time == list(range(1, 9))


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
