"""What no server gives on demand: AWS's odd states and faults, played by botocore's stubs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from botocore.stub import ANY, Stubber

from resources.sagemaker import (
    DeployConflictError,
    EndpointSpec,
    ModelContainer,
    NotFoundError,
    RefusedError,
    SageMakerError,
    SageMakerResource,
    Security,
    TrainedJob,
    TrainingError,
    TrainingJobSpec,
    UnavailableError,
)
from resources.sagemaker.calls import Calls, Clients, make_clients, translate
from resources.sagemaker.errors import AlreadyExistsError
from resources.sagemaker.jobs import JobRun, JobRunner
from resources.sagemaker.logs import JobLogs
from tests.resources.tls_server import tls_server

ROLE = "arn:aws:iam::123456789012:role/worker"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
NO_SUCH_JOB = ("describe_training_job", "ValidationException", "Requested resource not found.")


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    return make_clients(region="eu-west-1", attempts=1)


@pytest.fixture
def control(clients: Clients) -> Iterator[Stubber]:
    with Stubber(clients.control) as stub:
        yield stub
        stub.assert_no_pending_responses()


def hasty(log: Any, patience_seconds: float = 5) -> Calls:
    return Calls(patience_seconds, log, first_wait_seconds=0.01, longest_wait_seconds=0.02)


def error(code: str, message: str = "words", status: int = 400) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "Operation")


@pytest.mark.parametrize(
    ("cause", "kind", "transient"),
    [
        (error("ThrottlingException", "Rate exceeded"), UnavailableError, True),
        (error("SomethingNew", status=503), UnavailableError, True),
        (error("SomethingNew", status=429), UnavailableError, True),
        (error("InternalFailure", status=500), UnavailableError, True),
        (EndpointConnectionError(endpoint_url="http://x"), UnavailableError, True),
        (error("ModelError", "Received server error (500)", 424), RefusedError, False),
        (error("ModelError", "Received server error (500)", 500), RefusedError, False),
        (error("AccessDeniedException"), RefusedError, False),
        (error("ValidationException"), RefusedError, False),
        (error("ExpiredTokenException"), RefusedError, False),
        (NoCredentialsError(), RefusedError, False),
        (error("ResourceLimitExceeded"), RefusedError, True),
        (error("ResourceInUse"), AlreadyExistsError, False),
        (error("ResourceNotFound"), NotFoundError, False),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, Exception) else None,
)
def test_each_of_awss_errors_has_its_kind(
    cause: Any, kind: type[SageMakerError], transient: bool
) -> None:
    ours = translate("operation", cause)

    assert type(ours) is kind
    assert ours.transient is transient


def test_patience_ends_in_an_error_that_may_be_retried(clients, control, log) -> None:
    for _ in range(200):
        control.add_client_error("describe_endpoint", "ThrottlingException", "Rate exceeded")
    with pytest.raises(UnavailableError, match="Rate exceeded"):
        hasty(log, 0.2)(clients.control.describe_endpoint, EndpointName="e")

    assert "describe_endpoint failed and is tried again in" in log.text
    for _ in range(200 - len(log.lines) - 1):  # those that were not asked for any more
        with pytest.raises(ClientError):
            clients.control.describe_endpoint(EndpointName="e")


@pytest.mark.parametrize("goes_away", [False, True])
def test_a_certificate_that_is_not_trusted_is_no_fault_of_the_network(
    goes_away: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    with tls_server(tmp_path, goes_away=goes_away) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        runtime = make_clients(region="eu-west-1", attempts=1).runtime
        with pytest.raises(SageMakerError) as failed:
            hasty(log, 0.2)(runtime.invoke_endpoint, EndpointName="e", Body=b"")

    assert failed.value.transient is goes_away
    assert bool(log.lines) is goes_away  # lines of retries
    advice = f"the certificate of {url} is not trusted (", "Set AWS_CA_BUNDLE"
    assert all((words in str(failed.value)) is not goes_away for words in advice)


def spec() -> TrainingJobSpec:
    return TrainingJobSpec(name="job", image="image", output_s3_uri="s3://b/o", stream_logs=False)


def described(**changes: Any) -> dict[str, Any]:
    """A job as AWS describes it, with the defaults that AWS adds to what was asked for."""
    request = spec().to_request("job", ROLE, {})
    for asked_only in ["Tags", "HyperParameters"]:
        del request[asked_only]
    return request | {
        "TrainingJobArn": f"{ARN}:training-job/job",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/o/job/output/model.tar.gz"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/o/", "KmsKeyId": ""},
        "AlgorithmSpecification": request["AlgorithmSpecification"]
        | {"MetricDefinitions": [{"Name": "train:msd", "Regex": "x"}]},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "CreationTime": NOW,
        **changes,
    }


def job_run(clients: Clients, log: Any) -> JobRun[TrainedJob]:
    runner = JobRunner(
        clients=clients,
        calls=hasty(log),
        role_arn=ROLE,
        tags={},
        poll_seconds=0.01,
        price_per_hour={},
        security=Security(),
    )
    return JobRun(runner, spec())


def test_a_job_is_waited_for_although_it_is_not_known_yet(clients, control, log) -> None:
    control.add_client_error(*NO_SUCH_JOB)
    control.add_response("create_training_job", {"TrainingJobArn": f"{ARN}:training-job/job"})
    control.add_client_error(*NO_SUCH_JOB)
    control.add_response("describe_training_job", described())
    job = job_run(clients, log)
    job.begin()

    assert job.poll() is None
    result = job.poll()
    assert result is not None
    assert result.origin == "started"
    assert result.billable_seconds is None, "AWS leaves it out of some jobs"
    assert result.metadata()["estimated_cost"] is None


def test_a_race_for_the_name_ends_in_attaching_to_the_winner(clients, control, log) -> None:
    control.add_client_error(*NO_SUCH_JOB)
    control.add_client_error("create_training_job", "ResourceInUse", "names must be unique")
    control.add_client_error(*NO_SUCH_JOB)  # known to the creation, not yet to the description
    control.add_response("describe_training_job", described(TrainingJobStatus="InProgress"))
    job = job_run(clients, log)
    job.begin()

    assert "attached" in log.text


def test_a_completed_job_without_an_artifact_is_no_success(clients, control, log) -> None:
    control.add_client_error(*NO_SUCH_JOB)
    control.add_response("create_training_job", {"TrainingJobArn": f"{ARN}:training-job/job"})
    control.add_response(
        "describe_training_job", described(ModelArtifacts={"S3ModelArtifacts": ""})
    )
    job = job_run(clients, log)
    job.begin()

    with pytest.raises(TrainingError, match="without an artifact"):
        job.poll()


@pytest.mark.parametrize(
    ("secondary", "advice"),
    [
        ("MaxRuntimeExceeded", "max_runtime_seconds"),
        ("MaxWaitTimeExceeded", "spot.max_wait_seconds"),
        ("Stopped", "Somebody stopped it"),
    ],
)
def test_a_stopped_job_is_no_success_and_says_which_limit_to_raise(
    clients, control, log, secondary, advice
) -> None:
    control.add_client_error(*NO_SUCH_JOB)
    control.add_response("create_training_job", {"TrainingJobArn": f"{ARN}:training-job/job"})
    # Even with an artifact: a stopped job may have written half of one.
    stopped = described(TrainingJobStatus="Stopped", SecondaryStatus=secondary)
    control.add_response("describe_training_job", stopped)
    job = job_run(clients, log)
    job.begin()

    with pytest.raises(TrainingError, match=advice):
        job.poll()


def test_a_job_that_cannot_be_stopped_is_told_with_a_link(clients, control, log) -> None:
    control.add_client_error(*NO_SUCH_JOB)
    control.add_response("create_training_job", {"TrainingJobArn": f"{ARN}:training-job/job"})
    control.add_client_error("stop_training_job", "AccessDeniedException", "no")
    job = job_run(clients, log)
    job.begin()
    job.abandon()

    assert "https://eu-west-1.console.aws.amazon.com/" in log.lines[-1]
    assert "3600 s" in log.lines[-1]


@contextmanager
def log_stub(clients: Clients) -> Iterator[Stubber]:
    with Stubber(clients.logs) as stub:
        yield stub
        stub.assert_no_pending_responses()


def page(token: str, *messages: str) -> dict[str, Any]:
    events = [{"timestamp": 1, "message": message, "ingestionTime": 1} for message in messages]
    return {"events": events, "nextForwardToken": token, "nextBackwardToken": "b/0"}


def request(**more: str) -> dict[str, Any]:
    return {
        "logGroupName": TRAINING_LOGS,
        "logStreamName": "job/algo-1-1",
        "startFromHead": True,
        **more,
    }


def test_log_pages_are_followed_until_the_token_stays_the_same(clients, log) -> None:
    stream = {"logStreams": [{"logStreamName": "job/algo-1-1"}]}
    logs = JobLogs(clients, hasty(log), group=TRAINING_LOGS, job="job")
    with log_stub(clients) as stub:
        # The first line makes group and stream.
        stub.add_client_error("describe_log_streams", "ResourceNotFoundException", "no group")
        assert logs.copy_new() == 0
        stub.add_response("describe_log_streams", stream)
        stub.add_response("get_log_events", page("f/1", "one", "two"), request())
        stub.add_response("get_log_events", page("f/2"), request(nextToken="f/1"))  # empty, not end
        stub.add_response("get_log_events", page("f/3", "three"), request(nextToken="f/2"))
        stub.add_response("get_log_events", page("f/3"), request(nextToken="f/3"))
        assert logs.copy_new() == 3
        stub.add_response("get_log_events", page("f/4", "four"), request(nextToken="f/3"))
        stub.add_response("get_log_events", page("f/4"), request(nextToken="f/4"))
        assert logs.copy_new() == 1

    assert log.lines == ["algo-1-1:\none\ntwo", "algo-1-1: three", "algo-1-1: four"]


def test_a_log_that_may_not_be_read_is_told_once_and_left_out(clients, log) -> None:
    logs = JobLogs(clients, hasty(log), group=TRAINING_LOGS, job="job")
    with log_stub(clients) as stub:
        stub.add_client_error("describe_log_streams", "AccessDeniedException", "not for you")
        assert logs.copy_new() == 0
        assert logs.copy_new() == 0

    assert len(log.lines) == 1
    assert "not for you" in log.text


def endpoint(config: str, *, status: str = "InService", modified: int = 1) -> dict[str, Any]:
    return {
        "EndpointName": "e",
        "EndpointArn": f"{ARN}:endpoint/e",
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": NOW,
        "LastModifiedTime": datetime(2026, 11, modified, tzinfo=UTC),
    }


@pytest.fixture
def stubbed(clients: Clients) -> SageMakerResource:
    resource = SageMakerResource(role_arn=ROLE, poll_seconds=0.01, patience_seconds=1)
    resource._clients = clients
    return resource


def version() -> EndpointSpec:
    container = ModelContainer(image="image", model_data_url="s3://b/model.tar.gz")
    return EndpointSpec(endpoint_name="e", version="v2", container=container)


def add_standing_parts(control: Stubber) -> str:
    """Model and endpoint config of the version stand already, not verified; gives its name."""
    plan = version().plan(ROLE, {})
    control.add_response(
        "describe_model",
        plan.model
        | {
            "ModelName": plan.model_name,
            "ModelArn": f"{ARN}:model/{plan.model_name}",
            "CreationTime": NOW,
        },
    )
    arn = f"{ARN}:endpoint-config/{plan.config_name}"
    config = {"EndpointConfigName": plan.config_name, "EndpointConfigArn": arn, "CreationTime": NOW}
    control.add_response("describe_endpoint_config", plan.config | config)
    control.add_response("list_tags", {"Tags": []})
    return plan.config_name


def test_a_deploy_that_somebody_deployed_over_says_so(stubbed, control) -> None:
    control.add_response("describe_endpoint", endpoint("e-v1"))
    add_standing_parts(control)
    control.add_response("update_endpoint", {"EndpointArn": f"{ARN}:endpoint/e"})
    control.add_response("describe_endpoint", endpoint("e-v1", status="Updating"))
    control.add_response("add_tags", {"Tags": []}, {"ResourceArn": ANY, "Tags": ANY})
    control.add_response("describe_endpoint", endpoint("e-v3", modified=2))

    with pytest.raises(DeployConflictError, match="serves e-v3: somebody else deployed"):
        stubbed.deploy(version())


def test_an_accepted_update_is_waited_for_although_it_does_not_show_yet(stubbed, control) -> None:
    """Else the old config, still in service, would be taken for a failed update."""
    control.add_response("describe_endpoint", endpoint("e-v1"))
    wanted = add_standing_parts(control)
    control.add_response("update_endpoint", {"EndpointArn": f"{ARN}:endpoint/e"})
    control.add_response("describe_endpoint", endpoint("e-v1"))
    control.add_response("describe_endpoint", endpoint("e-v1", status="Updating", modified=2))
    control.add_response("add_tags", {"Tags": []})
    control.add_response("describe_endpoint", endpoint(wanted, modified=3))
    control.add_response("add_tags", {"Tags": []})

    assert stubbed.deploy(version()).outcome == "updated"


def test_an_update_that_came_between_says_who_is_deploying(stubbed, control) -> None:
    pending = {"PendingDeploymentSummary": {"EndpointConfigName": "e-v3"}}
    control.add_response("describe_endpoint", endpoint("e-v1"))
    add_standing_parts(control)
    control.add_client_error(
        "update_endpoint", "ValidationException", 'Cannot update in-progress endpoint "arn".'
    )
    control.add_response("describe_endpoint", endpoint("e-v1", status="Updating") | pending)

    with pytest.raises(DeployConflictError, match="Updating to e-v3"):
        stubbed.deploy(version())


def test_an_endpoint_that_the_service_itself_updates_is_waited_for(stubbed, control) -> None:
    control.add_response("describe_endpoint", endpoint("e-v1", status="SystemUpdating"))
    control.add_response("describe_endpoint", endpoint("e-v1", status="SystemUpdating"))
    control.add_response("describe_endpoint", endpoint("e-v1"))
    wanted = add_standing_parts(control)
    control.add_response("update_endpoint", {"EndpointArn": f"{ARN}:endpoint/e"})
    control.add_response("describe_endpoint", endpoint(wanted))
    control.add_response("add_tags", {"Tags": []})
    control.add_response("describe_endpoint", endpoint(wanted))
    control.add_response("add_tags", {"Tags": []})

    assert stubbed.deploy(version()).outcome == "updated"


def test_when_the_way_back_fails_as_well_the_error_says_what_may_serve(stubbed, control) -> None:
    def smoke(_: object) -> None:
        raise ValueError("wrong digit")

    control.add_response("describe_endpoint", endpoint("e-v1"))
    wanted = add_standing_parts(control)
    control.add_response("update_endpoint", {"EndpointArn": f"{ARN}:endpoint/e"})
    control.add_response("describe_endpoint", endpoint(wanted))
    control.add_response("add_tags", {"Tags": []})
    control.add_response("describe_endpoint", endpoint(wanted))
    control.add_client_error("update_endpoint", "AccessDeniedException", "not any more")

    with pytest.raises(SageMakerError, match=r"wrong digit.*may still be serving.*not any more"):
        stubbed.deploy(version(), smoke=smoke)
