"""Batch transform against the embedded SageMaker: what comes out, and what is left behind."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from resources.sagemaker import (
    ModelContainer,
    SageMakerResource,
    SpecError,
    TrainedJob,
    TransformError,
    TransformInput,
    TransformJobSpec,
    UnavailableError,
)
from tests.resources.sagemaker.conftest import Faults, RecordingLog

MakeTransform = Callable[..., TransformJobSpec]


@pytest.fixture
def make_transform(
    trained: TrainedJob, training_uri: str, bucket: str, unique: str
) -> MakeTransform:
    """Specs of transform jobs on the points, the same each time but for what is asked."""

    def make(**changes: Any) -> TransformJobSpec:
        fields: dict[str, Any] = {
            "name": unique,
            "container": ModelContainer(image=trained.image, model_data_url=trained.artifact_uri),
            "input": TransformInput(
                s3_uri=training_uri, content_type="text/csv", split_type="Line"
            ),
            "output_s3_uri": f"s3://{bucket}/answers/",
            "accept": "text/csv",
            **changes,
        }
        return TransformJobSpec(**fields)

    return make


def answers(bucket: str) -> dict[str, str]:
    """The objects that jobs have left."""
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket=bucket, Prefix="answers/").get("Contents", [])
    return {
        item.get("Key", ""): client.get_object(Bucket=bucket, Key=item.get("Key", ""))["Body"]
        .read()
        .decode()
        for item in listed
    }


def jobs_named(sagemaker: SageMakerResource, name: str) -> list[str]:
    answer = sagemaker.clients.control.list_transform_jobs(NameContains=name)
    return sorted(job["TransformJobName"] for job in answer["TransformJobSummaries"])


def models_named(sagemaker: SageMakerResource, name: str) -> list[str]:
    answer = sagemaker.clients.control.list_models(NameContains=name)
    return [model["ModelName"] for model in answer["Models"]]


def status_of(sagemaker: SageMakerResource, name: str) -> str:
    described = sagemaker.clients.control.describe_transform_job(TransformJobName=name)
    return described["TransformJobStatus"]


def test_every_record_is_answered_and_the_model_does_not_stay(
    sagemaker: SageMakerResource,
    make_transform: MakeTransform,
    bucket: str,
    unique: str,
    log: RecordingLog,
) -> None:
    data = sagemaker.transform(make_transform(), log=log, tags={"run": "1"})

    assert (data.name, data.origin) == (unique, "started")
    assert data.output_s3_uri == f"s3://{bucket}/answers/"
    assert data.seconds is not None
    assert data.estimated_cost == pytest.approx(data.seconds * 0.115 / 3600)
    (written,) = answers(bucket).items()
    assert written[0] == "answers/train.csv.out"
    clusters = [line.split(",")[0] for line in written[1].splitlines()]
    # The points are a hundred around one place, and a hundred around another.
    assert len(clusters) == 200
    assert len(set(clusters[:100])) == len(set(clusters[100:])) == 1
    assert clusters[0] != clusters[100]
    assert models_named(sagemaker, unique) == []
    tags = sagemaker.clients.control.list_tags(ResourceArn=data.arn)["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"pipeline": "tests", "run": "1"}
    assert f"Transform job {unique} started" in log.text


def test_the_same_work_is_not_paid_twice(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str
) -> None:
    first = sagemaker.transform(make_transform())
    again = sagemaker.transform(make_transform())
    assert (again.name, again.origin) == (first.name, "reused")
    assert jobs_named(sagemaker, unique) == [unique]

    by_line = sagemaker.transform(make_transform(assemble_with="Line"))
    assert (by_line.name, by_line.origin) == (f"{unique}-2", "started")
    gone = sagemaker.transform(make_transform(), usable=lambda data: data.name != unique)
    assert (gone.name, gone.origin) == (f"{unique}-3", "started")
    assert models_named(sagemaker, unique) == []


def test_a_job_and_a_model_that_a_killed_run_has_left_are_taken_up(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str, faults: Faults
) -> None:
    spec = make_transform()
    model = spec.model_name(sagemaker.role_arn)
    control = sagemaker.clients.control
    control.create_model(ModelName=model, **spec.container.to_request(sagemaker.role_arn))
    with faults(sagemaker, "slow-start=2", operation="CreateTransformJob"):
        control.create_transform_job(**spec.to_request(unique, sagemaker.role_arn, {}))

    assert sagemaker.transform(spec).origin == "attached"
    assert jobs_named(sagemaker, unique) == [unique]
    assert models_named(sagemaker, unique) == []


def test_a_model_of_that_name_with_other_contents_is_not_used(
    sagemaker: SageMakerResource, make_transform: MakeTransform, trained: TrainedJob, unique: str
) -> None:
    container = ModelContainer(image=trained.image, model_data_url=trained.artifact_uri)
    spec = make_transform(container=container.model_copy(update={"environment": {"A": "1"}}))
    model = spec.model_name(sagemaker.role_arn)
    control = sagemaker.clients.control
    control.create_model(ModelName=model, **container.to_request(sagemaker.role_arn))

    with pytest.raises(TransformError, match=r"PrimaryContainer\.Environment\.A.*Delete it"):
        sagemaker.transform(spec)
    assert models_named(sagemaker, unique) == [model]
    assert jobs_named(sagemaker, unique) == []


def test_a_job_that_fails_says_why_and_leaves_no_model(
    sagemaker: SageMakerResource, make_transform: MakeTransform, bucket: str, unique: str
) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="words/a.csv", Body=b"one,two\n")
    words = TransformInput(s3_uri=f"s3://{bucket}/words/", content_type="text/csv")

    with pytest.raises(TransformError, match="failed: ") as caught:
        sagemaker.transform(make_transform(input=words))
    described = sagemaker.clients.control.describe_transform_job(TransformJobName=unique)
    assert described["FailureReason"] in str(caught.value)
    assert not caught.value.transient
    assert models_named(sagemaker, unique) == []
    assert answers(bucket) == {}


class Interruption(BaseException):
    """As Dagster's own interruption: no Exception."""


def test_an_interruption_stops_the_job_and_removes_its_model(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str, faults: Faults
) -> None:
    class InterruptingLog(RecordingLog):
        def info(self, msg: str, /) -> None:
            if "started" in msg:
                raise Interruption

    with (
        faults(sagemaker, "slow-start=600", operation="CreateTransformJob"),
        pytest.raises(Interruption),
    ):
        sagemaker.transform(make_transform(), log=InterruptingLog())
    assert status_of(sagemaker, unique) in {"Stopping", "Stopped"}
    assert models_named(sagemaker, unique) == []


def test_the_deadline_stops_the_job(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str, faults: Faults
) -> None:
    with (
        faults(sagemaker, "slow-start=600", operation="CreateTransformJob"),
        pytest.raises(TransformError, match=r"deadline of 0\.5 s"),
    ):
        sagemaker.transform(make_transform(deadline_seconds=0.5))
    assert status_of(sagemaker, unique) == "Stopped"
    assert models_named(sagemaker, unique) == []


def test_a_job_that_fails_for_want_of_capacity_leaves_no_model(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str, faults: Faults
) -> None:
    with (
        faults(sagemaker, "capacity-error", operation="CreateTransformJob"),
        pytest.raises(TransformError, match="CapacityError") as caught,
    ):
        sagemaker.transform(make_transform())
    assert caught.value.transient
    assert models_named(sagemaker, unique) == []


def test_a_model_that_another_run_deletes_meanwhile_is_created_again(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str
) -> None:
    spec = make_transform()
    others = boto3.client("sagemaker")
    deleted: list[str] = []

    def delete(**_: object) -> None:
        if not deleted:
            deleted.append(spec.model_name(sagemaker.role_arn))
            others.delete_model(ModelName=deleted[0])

    events = sagemaker.clients.control.meta.events
    events.register("before-call.sagemaker.CreateTransformJob", delete)
    assert sagemaker.transform(spec).origin == "started"
    assert deleted
    assert models_named(sagemaker, unique) == []


def test_while_sagemaker_is_silent_the_model_stays_for_the_job_that_goes_on(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str, faults: Faults
) -> None:
    hasty = sagemaker.model_copy(update={"patience_seconds": 0.0, "max_attempts": 1})
    spec = make_transform()
    model = spec.model_name(sagemaker.role_arn)
    control = sagemaker.clients.control
    control.create_model(ModelName=model, **spec.container.to_request(sagemaker.role_arn))
    with faults(sagemaker, "slow-start=3", operation="CreateTransformJob"):
        control.create_transform_job(**spec.to_request(unique, sagemaker.role_arn, {}))
    with (
        faults(hasty, "internal-error", operation="DescribeTransformJob"),
        pytest.raises(UnavailableError, match="describe_transform_job could not be done"),
    ):
        hasty.transform(spec)
    assert models_named(sagemaker, unique) == [model]
    assert sagemaker.transform(spec).origin in {"attached", "reused"}
    assert models_named(sagemaker, unique) == []


def test_what_is_no_address_in_s3_is_not_sent(
    sagemaker: SageMakerResource, make_transform: MakeTransform, unique: str
) -> None:
    with pytest.raises(SpecError, match="'/data' is not an S3 URI"):
        sagemaker.transform(make_transform(output_s3_uri="/data"))
    assert models_named(sagemaker, unique) == []
