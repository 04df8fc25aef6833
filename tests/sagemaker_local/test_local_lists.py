"""List* calls, tags, and faults on demand."""

from typing import Any

import pytest

from tests.sagemaker_local.rig import IMAGE, ROLE, Server, job, refusal, unique, variant


@pytest.fixture(scope="module")
def models(server: Server, trained: str) -> list[str]:
    """The names of seven models, in the order of their creation."""
    prefix = unique("many")
    names = [f"{prefix}-{number}" for number in (3, 1, 4, 0, 5, 2, 6)]
    for name in names:
        server.sagemaker.create_model(
            ModelName=name,
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": trained},
            ExecutionRoleArn=ROLE,
            Tags=[{"Key": "name", "Value": name}],
        )
    return names


def listed(server: Server, **request: Any) -> list[str]:
    pages = server.sagemaker.get_paginator("list_models").paginate(**request)
    return [model["ModelName"] for page in pages for model in page["Models"]]


def test_pages_hold_everything_once_in_order(server: Server, models: list[str]) -> None:
    prefix = models[0].rsplit("-", 1)[0]
    for size in (1, 2, 3, 7, 100):
        names = listed(server, NameContains=prefix, MaxResults=size, SortOrder="Ascending")
        assert names == models
    assert listed(server, NameContains=prefix) == models[::-1]
    by_name = listed(server, NameContains=prefix, SortBy="Name", SortOrder="Ascending")
    assert by_name == sorted(models)
    assert listed(server, NameContains=prefix.upper(), MaxResults=4) == models[::-1]


def test_a_token_is_refused_with_another_request_than_its_own(
    server: Server, models: list[str]
) -> None:
    page = server.sagemaker.list_models(NameContains="many", MaxResults=2)
    answer = refusal(
        lambda: server.sagemaker.list_models(NameContains="other", NextToken=page["NextToken"])
    )
    assert answer["Error"]["Code"] == "ValidationException"


def test_a_token_is_refused_by_another_operation_of_the_same_parameters(
    server: Server, models: list[str]
) -> None:
    page = server.sagemaker.list_models(MaxResults=2)
    answer = refusal(
        lambda: server.sagemaker.list_endpoint_configs(MaxResults=2, NextToken=page["NextToken"])
    )
    assert "another operation" in answer["Error"]["Message"]
    assert len(models) > 2
    server.sagemaker.list_models(MaxResults=2, NextToken=page["NextToken"])


def test_time_and_status_filters(server: Server, models: list[str], trained: str) -> None:
    prefix = models[0].rsplit("-", 1)[0]
    middle = server.sagemaker.describe_model(ModelName=models[3])["CreationTime"]
    later = listed(server, NameContains=prefix, CreationTimeAfter=middle.timestamp() + 0.0005)
    assert set(later) <= set(models[3:])
    assert models[6] in later
    earlier = listed(server, NameContains=prefix, CreationTimeBefore=middle)
    assert set(earlier) <= set(models[:4])
    name = trained.split("/")[-3]
    jobs = server.sagemaker.list_training_jobs(StatusEquals="Completed", NameContains=name)
    (only,) = jobs["TrainingJobSummaries"]
    assert only["TrainingJobName"] == name
    assert only["SecondaryStatus"] == "Completed"
    none = server.sagemaker.list_training_jobs(StatusEquals="Failed", NameContains=name)
    assert none["TrainingJobSummaries"] == []


def test_configs_and_endpoints_are_listed(server: Server, endpoint: str) -> None:
    config = server.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    configs = server.sagemaker.list_endpoint_configs(NameContains=config)["EndpointConfigs"]
    assert [summary["EndpointConfigName"] for summary in configs] == [config]
    endpoints = server.sagemaker.list_endpoints(NameContains=endpoint, StatusEquals="InService")
    assert [summary["EndpointStatus"] for summary in endpoints["Endpoints"]] == ["InService"]


def test_tags_are_added_changed_listed_and_removed(server: Server, models: list[str]) -> None:
    arn = server.sagemaker.describe_model(ModelName=models[0])["ModelArn"]
    more = [{"Key": f"k{number}", "Value": "1"} for number in range(5)]
    server.sagemaker.add_tags(ResourceArn=arn, Tags=[*more, {"Key": "name", "Value": "new"}])
    pages = server.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    assert tags == {"name": "new", **{f"k{number}": "1" for number in range(5)}}
    server.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["k0", "k1", "none"])
    left = server.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    assert [tag["Key"] for tag in left] == ["k2", "k3", "k4", "name"]


def test_tags_are_deleted_with_their_resource(server: Server, trained: str) -> None:
    name = unique("tagged")
    request = {
        "ModelName": name,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": trained},
        "ExecutionRoleArn": ROLE,
    }
    created = server.sagemaker.create_model(**request, Tags=[{"Key": "a", "Value": "b"}])
    server.sagemaker.delete_model(ModelName=name)
    server.sagemaker.create_model(**request)
    assert server.sagemaker.list_tags(ResourceArn=created["ModelArn"])["Tags"] == []


def with_faults(server: Server, plan: str, service: str = "sagemaker") -> Any:
    """A client whose every request asks for faults."""
    client = server.client(service)

    def ask(request: Any, **_: Any) -> None:
        request.headers["X-Embedded-SageMaker-Faults"] = plan

    client.meta.events.register("before-sign.*.*", ask)
    return client


@pytest.mark.parametrize(
    ("plan", "code", "status"),
    [
        ("throttle", "ThrottlingException", 400),
        ("internal-error", "InternalFailure", 500),
        ("unavailable", "ServiceUnavailable", 503),
        ("no-such-fault", "ValidationException", 400),
    ],
)
def test_requests_fail_on_demand(
    server: Server, endpoint: str, plan: str, code: str, status: int
) -> None:
    control, runtime = with_faults(server, plan), with_faults(server, plan, "sagemaker-runtime")
    for call in (
        lambda: control.list_models(),
        lambda: runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1"),
    ):
        answer = refusal(call)
        assert answer["Error"]["Code"] == code
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ("job-failure", "AlgorithmError: failure on demand, exit code: 1"),
        ("capacity-error", "CapacityError: Unable to provision requested ML compute capacity."),
    ],
)
def test_jobs_fail_on_demand(server: Server, store: str, plan: str, reason: str) -> None:
    name = unique("fault")
    with_faults(server, plan).create_training_job(**job(name, store))
    assert server.until(name, "Failed", "Completed")["FailureReason"].startswith(reason)


def test_jobs_start_slowly_on_demand(server: Server, store: str) -> None:
    name, usual = unique("slow"), unique("usual")
    with_faults(server, "slow-start=600").create_training_job(**job(name, store))
    server.sagemaker.create_training_job(**job(usual, store))
    assert server.finished(usual)["TrainingJobStatus"] == "Completed"
    description = server.sagemaker.describe_training_job(TrainingJobName=name)
    assert (description["TrainingJobStatus"], description["SecondaryStatus"]) == (
        "InProgress",
        "Starting",
    )
    server.sagemaker.stop_training_job(TrainingJobName=name)
    server.until(name, "Stopped")


@pytest.mark.parametrize("plan", ["endpoint-failure", "capacity-error"])
def test_updates_fail_on_demand_and_the_old_config_serves(
    server: Server, model: str, plan: str
) -> None:
    before, after = unique("before"), unique("after")
    name = server.deploy(before, variant(model))
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=after, ProductionVariants=[variant(model)]
    )
    with_faults(server, plan).update_endpoint(EndpointName=name, EndpointConfigName=after)
    description = server.in_service(name)
    assert description["EndpointConfigName"] == before
    assert description["FailureReason"]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_faults_in_the_environment_hit_so_many_requests(own_server: Server) -> None:
    own_server.extra = {"EMBEDDED_SAGEMAKER_FAULTS": "throttle@ListModels*2, unavailable@ListTags"}
    own_server.start()
    for _ in range(2):
        answer = refusal(lambda: own_server.sagemaker.list_models())
        assert answer["Error"]["Code"] == "ThrottlingException"
    assert own_server.sagemaker.list_models()["Models"] == []
    assert own_server.sagemaker.list_endpoints()["Endpoints"] == []
