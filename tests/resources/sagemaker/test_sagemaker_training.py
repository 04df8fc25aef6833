"""Training against the embedded SageMaker: what is started, attached to, reused, stopped."""

import io
import tarfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from resources.sagemaker import (
    RefusedError,
    S3Channel,
    SageMakerResource,
    Security,
    SpecError,
    TrainedJob,
    TrainingCompute,
    TrainingError,
    TrainingJobSpec,
)
from resources.sagemaker.calls import Calls, make_clients
from resources.sagemaker.jobs import JobRunner

MakeSpec = Callable[..., TrainingJobSpec]
PATIENCE_SECONDS = 120


def status_of(sagemaker: SageMakerResource, name: str) -> str:
    return sagemaker.clients.control.describe_training_job(TrainingJobName=name)[
        "TrainingJobStatus"
    ]


def jobs_named(sagemaker: SageMakerResource, name: str) -> list[str]:
    answer = sagemaker.clients.control.list_training_jobs(NameContains=name)
    return sorted(job["TrainingJobName"] for job in answer["TrainingJobSummaries"])


def wait_until_known(sagemaker: SageMakerResource, name: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            status_of(sagemaker, name)
        except ClientError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{name} was not started")


def wait_for_status(sagemaker: SageMakerResource, name: str, status: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while status_of(sagemaker, name) != status:
        assert time.monotonic() < end, f"{name} is {status_of(sagemaker, name)}, not {status}"
        time.sleep(0.02)


class InBackground:
    """A call in a thread, with its outcome."""

    def __init__(self, call: Callable[[], TrainedJob]) -> None:
        self.result: TrainedJob | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], TrainedJob]) -> None:
        try:
            self.result = call()
        except BaseException as error:
            self.error = error

    def wait(self) -> None:
        self._thread.join(timeout=PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the call goes on"


def test_a_job_is_trained_and_says_where_its_artifact_is(sagemaker, make_spec, unique) -> None:
    job = sagemaker.train(make_spec())

    assert (job.name, job.origin) == (unique, "started")
    uri = urlsplit(job.artifact_uri)
    body = boto3.client("s3").get_object(Bucket=uri.netloc, Key=uri.path[1:])["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["model_algo-1"]
    assert job.metrics["train:msd"] < 1
    # AWS's console knows nothing of a job that another SageMaker runs.
    assert job.console_url == ""
    assert "training_job_url" not in job.metadata()


def test_a_job_wears_the_tags_of_resource_run_and_spec(sagemaker, make_spec) -> None:
    tags = {"dagster/run_id": "1234", "odd": "a#b"}
    job = sagemaker.train(make_spec(tags={"partition": "2026-11-22"}), tags=tags)

    answer = sagemaker.clients.control.list_tags(ResourceArn=job.arn)
    assert {tag["Key"]: tag["Value"] for tag in answer["Tags"]} == {
        "pipeline": "tests",
        "dagster/run_id": "1234",
        "odd": "a_b",
        "partition": "2026-11-22",
    }


def test_progress_and_the_jobs_own_log_lines_come_into_the_runs_log(
    sagemaker, make_spec, log
) -> None:
    sagemaker.train(make_spec(), log=log)

    assert any("Training" in line for line in log.lines), "secondary status"
    assert "#quality_metric: host=algo-1" in log.text
    lines = [line for line in log.text.splitlines() if "#quality_metric" in line]
    assert len(lines) == len(set(lines)), "no line twice"


def test_log_lines_stay_out_where_they_are_not_wanted(sagemaker, make_spec, log) -> None:
    sagemaker.train(make_spec(stream_logs=False), log=log)

    assert "#quality_metric" not in log.text


def test_a_completed_job_is_reused_and_not_paid_twice(sagemaker, make_spec, unique) -> None:
    first = sagemaker.train(make_spec())
    again = sagemaker.train(make_spec())

    assert again.origin == "reused"
    assert again.billable_seconds is not None
    assert again.estimated_cost == pytest.approx(again.billable_seconds * 0.115 / 3600)
    assert (again.name, again.artifact_uri) == (first.name, first.artifact_uri)
    assert jobs_named(sagemaker, unique) == [unique]


def test_the_same_name_with_another_configuration_is_another_job(
    sagemaker, make_spec, unique, log
) -> None:
    other_k = {"k": "3", "feature_dim": "2"}
    sagemaker.train(make_spec())
    other = sagemaker.train(make_spec(hyperparameters=other_k), log=log)

    assert (other.name, other.origin) == (f"{unique}-2", "started")
    assert "HyperParameters.k" in log.text
    assert sagemaker.train(make_spec(hyperparameters=other_k)).name == f"{unique}-2", "found again"
    assert sagemaker.train(make_spec()).name == unique, "as is the first"


def test_a_finished_job_whose_artifact_is_gone_is_done_again(sagemaker, make_spec, unique) -> None:
    first = sagemaker.train(make_spec())
    again = sagemaker.train(make_spec(), usable=lambda job: job.name != first.name)

    assert (again.name, again.origin) == (f"{unique}-2", "started")


def test_a_job_that_runs_already_is_attached_to(sagemaker, make_spec, unique, faults) -> None:
    with faults(sagemaker, "slow-start=2", operation="CreateTrainingJob"):
        first = InBackground(lambda: sagemaker.train(make_spec()))
        wait_until_known(sagemaker, unique)
    second = sagemaker.train(make_spec())
    first.wait()

    assert second.origin == "attached"
    assert first.result is not None
    assert first.result.artifact_uri == second.artifact_uri
    assert jobs_named(sagemaker, unique) == [unique]


def test_a_failed_job_raises_its_reason_and_the_next_call_is_a_new_attempt(
    sagemaker, make_spec, unique, faults
) -> None:
    with (
        faults(sagemaker, "job-failure", operation="CreateTrainingJob"),
        pytest.raises(TrainingError, match="failed: ") as caught,
    ):
        sagemaker.train(make_spec())
    described = sagemaker.clients.control.describe_training_job(TrainingJobName=unique)
    assert described["FailureReason"] in str(caught.value)
    assert not caught.value.transient

    assert sagemaker.train(make_spec()).name == f"{unique}-2"
    assert sagemaker.train(make_spec()).origin == "reused", "through the failed one"


def test_bad_hyperparameters_fail_for_good_with_the_algorithms_own_words(
    sagemaker, make_spec
) -> None:
    with pytest.raises(TrainingError, match="failed: ClientError") as caught:
        sagemaker.train(make_spec(hyperparameters={"k": "2", "feature_dim": "3"}))
    assert not caught.value.transient


def test_want_of_capacity_may_be_tried_again(sagemaker, make_spec, faults) -> None:
    with (
        faults(sagemaker, "capacity-error", operation="CreateTrainingJob"),
        pytest.raises(TrainingError, match="failed: CapacityError") as caught,
    ):
        sagemaker.train(make_spec())
    assert caught.value.transient


def test_a_job_that_somebody_stops_is_no_success(sagemaker, make_spec, unique, faults) -> None:
    with faults(sagemaker, "slow-start=20", operation="CreateTrainingJob"):
        run = InBackground(lambda: sagemaker.train(make_spec()))
        wait_until_known(sagemaker, unique)
    assert sagemaker.stop_training(unique)
    run.wait()

    assert isinstance(run.error, TrainingError)
    assert "Somebody stopped it" in str(run.error)
    assert sagemaker.train(make_spec()).name == f"{unique}-2"


def test_stopping_what_is_done_or_unknown_stops_nothing(sagemaker, make_spec, unique) -> None:
    sagemaker.train(make_spec())

    assert not sagemaker.stop_training(unique)
    assert not sagemaker.stop_training(f"{unique}-unknown")


def test_the_deadline_stops_the_job(sagemaker, make_spec, unique, faults) -> None:
    with (
        faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(TrainingError, match=r"deadline of 0\.5 s") as caught,
    ):
        sagemaker.train(make_spec(deadline_seconds=0.5))

    assert status_of(sagemaker, unique) == "Stopped"
    assert not caught.value.transient


def test_attaching_does_not_prolong_the_deadline(sagemaker, make_spec, unique, faults) -> None:
    """By the job's own age: were it the call's, this would go on for an hour."""
    spec = make_spec(deadline_seconds=3600)
    request = spec.to_request(unique, sagemaker.role_arn, {})
    with faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"):
        sagemaker.clients.control.create_training_job(**request)

    def grow_old(parsed: dict[str, Any], **_: object) -> None:
        parsed["CreationTime"] -= timedelta(hours=2)

    events = sagemaker.clients.control.meta.events
    events.register("after-call.sagemaker.DescribeTrainingJob", grow_old)
    with pytest.raises(TrainingError, match="deadline of 3600 s"):
        sagemaker.train(spec)

    assert status_of(sagemaker, unique) == "Stopped"


class Interruption(BaseException):
    """As Dagster's own interruption: no Exception."""


def test_an_interruption_stops_the_job_and_goes_on(sagemaker, make_spec, unique, faults) -> None:
    class InterruptingLog:
        def info(self, msg: str, /) -> None:
            if "Starting" in msg:
                raise Interruption

        def warning(self, msg: str, /) -> None: ...

    with (
        faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(Interruption),
    ):
        sagemaker.train(make_spec(), log=InterruptingLog())

    wait_for_status(sagemaker, unique, "Stopped")


def test_an_interruption_before_the_answer_to_the_start_stops_the_job(
    sagemaker, make_spec, unique, faults
) -> None:
    def interrupt(**_: object) -> None:
        raise Interruption

    events = sagemaker.clients.control.meta.events
    events.register("after-call.sagemaker.CreateTrainingJob", interrupt)
    with (
        faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(Interruption),
    ):
        sagemaker.train(make_spec())

    wait_for_status(sagemaker, unique, "Stopped")


def test_an_answer_that_got_lost_does_not_start_a_second_job(sagemaker, make_spec, unique) -> None:
    """The request arrives, its answer doesn't: SageMaker then says ResourceInUse to our retry."""
    lost: list[AWSPreparedRequest] = []

    def lose_first(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        if lost:
            return None
        lost.append(request)
        answer = URLLib3Session().send(request)
        answer.status_code = 502
        return answer

    sagemaker.clients.control.meta.events.register(
        "before-send.sagemaker.CreateTrainingJob", lose_first
    )
    job = sagemaker.train(make_spec())

    assert len(lost) == 1
    assert job.artifact_uri
    assert jobs_named(sagemaker, unique) == [unique]


def test_throttling_and_server_errors_are_ridden_out(sagemaker, make_spec, faults, log) -> None:
    with (
        faults(sagemaker, "throttle=0.3", operation="DescribeTrainingJob"),
        faults(sagemaker, "internal-error=0.3", operation="CreateTrainingJob"),
    ):
        assert sagemaker.train(make_spec(), log=log).origin == "started"


def test_what_sagemaker_refuses_is_not_asked_twice(sagemaker, make_spec) -> None:
    sent: list[str] = []
    events = sagemaker.clients.control.meta.events
    events.register("before-send.sagemaker.CreateTrainingJob", lambda **_: sent.append("once"))
    compute = TrainingCompute(instance_type="ml.no.such")

    with pytest.raises(RefusedError, match=r"ValidationException.*ml\.no\.such") as caught:
        sagemaker.train(make_spec(compute=compute))
    assert len(sent) == 1
    assert not caught.value.transient


def test_inputs_that_are_not_there_are_named(sagemaker, make_spec, bucket) -> None:
    channel = S3Channel(name="train", s3_uri=f"s3://{bucket}/nothing/", content_type="text/csv")

    with pytest.raises((RefusedError, TrainingError), match="No S3 objects found"):
        sagemaker.train(make_spec(channels=[channel]))


def test_many_jobs_run_at_one_time_and_one_that_fails_fails_alone(
    sagemaker, make_spec, unique
) -> None:
    specs = [
        make_spec(name=f"{unique}-a"),
        make_spec(name=f"{unique}-b", hyperparameters={"k": "2", "feature_dim": "9"}),
        make_spec(name=f"{unique}-a"),
        make_spec(name=f"{unique}-c"),
    ]
    first, second, third, fourth = sagemaker.train_all(specs, at_once=2)

    assert isinstance(first, TrainedJob)
    assert isinstance(second, TrainingError)
    assert isinstance(third, TrainedJob)
    assert isinstance(fourth, TrainedJob)
    assert third.name == first.name, "the same work is done once"
    assert jobs_named(sagemaker, unique) == [f"{unique}-a", f"{unique}-b", f"{unique}-c"]


def test_looks_at_many_jobs_come_evenly(sagemaker, make_spec, unique, faults, log) -> None:
    """Twenty of them stay below the five requests a second that CloudWatch allows an account."""
    happened: list[str | float] = []

    def note(event_name: str, **_: object) -> None:
        happened.append(event_name.rpartition(".")[2])

    def pause(seconds: float) -> None:
        happened.append(seconds)
        if sum(isinstance(item, float) for item in happened) > 2 * len(specs):
            raise Interruption

    clients = make_clients()
    for client in (clients.control, clients.logs):
        client.meta.events.register("before-send", note)
    specs = [make_spec(name=f"{unique}-{number}") for number in range(20)]
    runner = JobRunner(
        clients=clients,
        calls=Calls(20, log, sleep=pause),
        role_arn=sagemaker.role_arn,
        tags={},
        poll_seconds=30,
        price_per_hour={},
        security=Security(),
    )
    # As SageMakerResource has it.
    resource = SimpleNamespace(clients=clients)
    with (
        faults(resource, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(Interruption),
    ):
        runner.run_all(specs, at_once=len(specs))

    first = next(n for n, item in enumerate(happened) if isinstance(item, float))
    looks = happened[first:]
    assert {item for item in looks if isinstance(item, float)} == {1.5}
    assert looks.count("DescribeTrainingJob") == 2 * len(specs)
    between: list[str | float] = []
    for item in looks[: looks.index("StopTrainingJob")]:
        between = [] if isinstance(item, float) else [*between, item]
        # The job, its streams, what is in one, and that there is no more.
        assert len(between) <= 4, "requests within 1.5 s"


def test_an_interruption_stops_all_jobs(sagemaker, make_spec, unique, faults) -> None:
    class InterruptingLog:
        def info(self, msg: str, /) -> None:
            if msg.startswith(f"{unique}-b: Starting"):
                raise Interruption

        def warning(self, msg: str, /) -> None: ...

    specs = [make_spec(name=f"{unique}-{letter}") for letter in "abc"]
    with (
        faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(Interruption),
    ):
        sagemaker.train_all(specs, at_once=2, log=InterruptingLog())

    for name in jobs_named(sagemaker, unique):
        wait_for_status(sagemaker, name, "Stopped")
    assert f"{unique}-c" not in jobs_named(sagemaker, unique)


def test_a_job_is_watched_although_its_log_cannot_be_reached(
    sagemaker, make_spec, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:9")

    assert sagemaker.train(make_spec()).origin == "started"


def test_no_job_at_one_time_is_refused(sagemaker, make_spec) -> None:
    with pytest.raises(SpecError, match="at one time, not 0"):
        sagemaker.train_all([make_spec()], at_once=0)


def test_a_job_that_may_not_be_looked_at_any_more_is_stopped(sagemaker, make_spec, faults) -> None:
    """Nobody would wait for it, and it would go on until its own limit."""
    events = sagemaker.clients.control.meta.events
    name = "before-call.sagemaker.DescribeTrainingJob"
    spec, looks = make_spec(), []

    def refuse(**_: object) -> None:
        looks.append(1)
        if len(looks) > 1:  # at the first there is no job yet
            denied = {"Error": {"Code": "AccessDeniedException", "Message": "not any more"}}
            raise ClientError(denied, "DescribeTrainingJob")  # pyright: ignore[reportArgumentType]

    events.register(name, refuse)
    with (
        faults(sagemaker, "slow-start=600", operation="CreateTrainingJob"),
        pytest.raises(RefusedError, match="not any more"),
    ):
        sagemaker.train(spec)
    events.unregister(name, refuse)
    assert status_of(sagemaker, spec.name) in {"Stopping", "Stopped"}
