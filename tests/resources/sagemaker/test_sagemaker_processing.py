"""Processing jobs, in AWS's words played by botocore's stubs, which check each request."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from resources.sagemaker import (
    ProcessingError,
    ProcessingInput,
    ProcessingJobSpec,
    ProcessingOutput,
    SageMakerResource,
)
from tests.resources.sagemaker.request_checks import ROLE

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:processing-job/sums"
BEGUN = datetime(2026, 11, 22, tzinfo=UTC)
UNKNOWN = ("describe_processing_job", "ValidationException", "Could not find requested job")
NAME = {"ProcessingJobName": "sums"}

Describe = Callable[..., dict[str, Any]]


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> SageMakerResource:
    """On an AWS that nobody reaches."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    return SageMakerResource(
        role_arn=ROLE, poll_seconds=0.01, patience_seconds=0, price_per_hour={"ml.m5.large": 3600}
    )


@pytest.fixture
def control(sagemaker: SageMakerResource) -> Iterator[Stubber]:
    with Stubber(sagemaker.clients.control) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def spec() -> ProcessingJobSpec:
    return ProcessingJobSpec(
        name="sums",
        image="image",
        inputs=[
            ProcessingInput(name="rows", s3_uri="s3://b/in", local_path="/opt/ml/processing/in")
        ],
        outputs=[
            ProcessingOutput(name="sums", s3_uri="s3://b/out", local_path="/opt/ml/processing/out")
        ],
        instance_count=2,
        stream_logs=False,
    )


@pytest.fixture
def described(spec: ProcessingJobSpec) -> Describe:
    """The job as AWS describes it."""

    def describe(status: str, **more: Any) -> dict[str, Any]:
        request = spec.to_request("sums", ROLE, {})
        del request["Tags"]
        for item in request["ProcessingInputs"]:
            item["AppManaged"] = False
        times = {"CreationTime": BEGUN, "ProcessingStartTime": BEGUN}
        if status != "InProgress":
            times["ProcessingEndTime"] = BEGUN + timedelta(seconds=60)
        arn = {"ProcessingJobArn": ARN, "ProcessingJobStatus": status}
        return {**request, **arn, **times, **more}

    return describe


def test_a_job_is_started_and_waited_for(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    control.add_client_error(*UNKNOWN, expected_params=NAME)
    request = spec.to_request("sums", ROLE, {"run": "1"})
    control.add_response("create_processing_job", {"ProcessingJobArn": ARN}, request)
    control.add_response("describe_processing_job", described("InProgress"), NAME)
    control.add_response(
        "describe_processing_job", described("Completed", ExitMessage="2 sums"), NAME
    )
    data = sagemaker.process(spec, tags={"run": "1"})

    assert (data.name, data.arn, data.origin) == ("sums", ARN, "started")
    assert data.outputs == {"sums": "s3://b/out"}
    assert data.estimated_cost == 60 * 2
    assert data.metadata()["exit_message"] == "2 sums"
    assert data.console_url.endswith("#/processing-jobs/sums")


def test_one_that_has_done_the_work_is_reused(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    for _ in range(2):
        control.add_response("describe_processing_job", described("Completed"), NAME)
    assert sagemaker.process(spec).origin == "reused"


def test_one_that_runs_is_attached_to(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    control.add_response("describe_processing_job", described("InProgress"), NAME)
    control.add_response("describe_processing_job", described("Completed"), NAME)
    assert sagemaker.process(spec).origin == "attached"


def test_one_that_fails_says_why_and_the_next_name_is_tried(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    failed = described("Failed", FailureReason="AlgorithmError: exit code 1")
    control.add_response("describe_processing_job", failed, NAME)
    second = {"ProcessingJobName": "sums-2"}
    control.add_client_error(*UNKNOWN, expected_params=second)
    request = dict.fromkeys(spec.to_request("sums-2", ROLE, {}), ANY) | second
    control.add_response("create_processing_job", {"ProcessingJobArn": ARN}, request)
    control.add_response("describe_processing_job", failed | second, second)
    with pytest.raises(ProcessingError, match="Processing job sums-2 failed: AlgorithmError") as no:
        sagemaker.process(spec)
    assert not no.value.transient


def test_one_that_ran_for_too_long_says_so(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    limit = {"StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    control.add_response("describe_processing_job", described("InProgress"), NAME)
    control.add_response("describe_processing_job", described("Stopped", **limit), NAME)
    with pytest.raises(ProcessingError, match=r"max_runtime_seconds \(60 s\): raise it"):
        sagemaker.process(spec)


class Interruption(BaseException):
    """As Dagster's own interruption: no Exception."""


def test_an_interruption_stops_it(
    sagemaker: SageMakerResource, control: Stubber, spec: ProcessingJobSpec, described: Describe
) -> None:
    control.add_response("describe_processing_job", described("InProgress"), NAME)
    control.add_response("describe_processing_job", described("InProgress"), NAME)
    control.add_response("stop_processing_job", {}, NAME)
    looks: list[str] = []

    def interrupt(**_: object) -> None:
        looks.append("look")
        if len(looks) == 2:
            raise Interruption

    events = sagemaker.clients.control.meta.events
    events.register("after-call.sagemaker.DescribeProcessingJob", interrupt)
    with pytest.raises(Interruption):
        sagemaker.process(spec)
