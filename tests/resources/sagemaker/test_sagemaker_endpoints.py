"""Deploys against the embedded SageMaker: what serves afterwards, whatever goes wrong."""

import json
import threading
import time
from collections.abc import Callable

import boto3
import pytest

from resources.errors import ResourceError
from resources.sagemaker import (
    DeployConflictError,
    DeployDeadlineError,
    Deployment,
    EndpointError,
    EndpointState,
    Instances,
    Invoke,
    NotFoundError,
    RefusedError,
    SageMakerResource,
    SmokeTestError,
    UnavailableError,
    Variant,
)

PATIENCE_SECONDS = 120


def smoke(invoke: Invoke) -> None:
    """The two clusters of the training data are told apart."""
    answer = json.loads(invoke(b"0,0\n10,10", content_type="text/csv").body)
    near_zero, near_ten = [point["closest_cluster"] for point in answer["predictions"]]
    assert near_zero != near_ten


def broken_smoke(invoke: Invoke) -> None:
    raise ValueError("the model thinks that 1 is 7")


def state_of(sagemaker: SageMakerResource, endpoint: str) -> EndpointState:
    state = sagemaker.describe_endpoint(endpoint)
    assert state is not None
    return state


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def deploy_in_background(call: Callable[[], Deployment]) -> tuple[threading.Thread, list[object]]:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcomes


def test_first_deploy_then_nothing_to_do_then_update(
    sagemaker, make_version, endpoint, log
) -> None:
    first = sagemaker.deploy(make_version("v1"), smoke=smoke, log=log, tags={"run": "1"})
    assert (first.outcome, first.status, first.version) == ("created", "InService", "v1")
    assert first.config_name.startswith(f"{endpoint}-v1-")
    assert first.previous_config_name is None
    modified = state_of(sagemaker, endpoint).last_modified

    again = sagemaker.deploy(make_version("v1"), smoke=broken_smoke)
    assert (again.outcome, again.config_name) == ("unchanged", first.config_name)
    assert state_of(sagemaker, endpoint).last_modified == modified

    second = sagemaker.deploy(make_version("v2"), smoke=smoke, log=log, tags={"run": "2"})
    assert second.outcome == "updated"
    assert second.previous_config_name == first.config_name
    assert state_of(sagemaker, endpoint).config_name == second.config_name
    answer = sagemaker.clients.control.list_tags(ResourceArn=second.arn)
    tags = {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
    assert tags["run"] == "2"
    assert tags["dagster:version"] == "v2"
    assert tags["pipeline"] == "tests"


def test_all_that_is_made_wears_the_tags(sagemaker, make_version, endpoint) -> None:
    sagemaker.deploy(make_version("v1", tags={"partition": "2026-11-22"}), tags={"run": "7"})
    (version,) = sagemaker.list_versions(endpoint)
    control = sagemaker.clients.control
    (model,) = version.model_names
    arns = [version.arn, control.describe_model(ModelName=model)["ModelArn"]]
    for arn in [*arns, state_of(sagemaker, endpoint).arn]:
        tags = {tag["Key"]: tag["Value"] for tag in control.list_tags(ResourceArn=arn)["Tags"]}
        wanted = {
            "pipeline": "tests",
            "partition": "2026-11-22",
            "run": "7",
            "dagster:endpoint": endpoint,
            "dagster:version": "v1",
        }
        assert wanted.items() <= tags.items()


def test_an_update_that_sagemaker_gives_up_fails_and_the_old_version_serves(
    sagemaker, make_version, endpoint, faults
) -> None:
    first = sagemaker.deploy(make_version("v1"))
    with (
        faults(sagemaker, "endpoint-failure", operation="UpdateEndpoint"),
        pytest.raises(EndpointError, match="was not updated") as caught,
    ):
        sagemaker.deploy(make_version("v2"))

    state = state_of(sagemaker, endpoint)
    assert (state.status, state.config_name) == ("InService", first.config_name)
    assert state.failure_reason
    assert state.failure_reason in str(caught.value)
    assert not caught.value.transient
    answer = sagemaker.invoke(endpoint, b"0,0", content_type="text/csv", accept="text/csv")
    assert answer.variant == "AllTraffic"

    assert sagemaker.deploy(make_version("v2")).outcome == "updated", "later it may work"


def test_an_endpoint_that_failed_is_made_anew(sagemaker, make_version, endpoint, faults) -> None:
    with (
        faults(sagemaker, "endpoint-failure", operation="CreateEndpoint"),
        pytest.raises(EndpointError, match="could not be created") as caught,
    ):
        sagemaker.deploy(make_version("v1"))
    reason = state_of(sagemaker, endpoint).failure_reason
    assert reason
    assert reason in str(caught.value)

    assert sagemaker.deploy(make_version("v1"), smoke=smoke).outcome == "created"


def test_a_version_that_fails_its_smoke_request_gives_way_to_the_old_one(
    sagemaker, make_version, endpoint
) -> None:
    first = sagemaker.deploy(make_version("v1"), smoke=smoke)
    with pytest.raises(SmokeTestError, match=r"thinks that 1 is 7.*back in service"):
        sagemaker.deploy(make_version("v2"), smoke=broken_smoke)

    state = state_of(sagemaker, endpoint)
    assert (state.status, state.config_name) == ("InService", first.config_name)


class StoreDownError(ResourceError):
    """As of what a smoke test reads its expectations from."""

    transient = True


@pytest.mark.parametrize("error", [UnavailableError("nobody answers"), StoreDownError("no S3")])
def test_a_smoke_request_that_an_outage_kept_from_its_answer_may_be_tried_again(
    sagemaker, make_version, endpoint, error
) -> None:
    def unanswered(invoke: Invoke) -> None:
        raise error

    first = sagemaker.deploy(make_version("v1"), smoke=smoke)
    with pytest.raises(SmokeTestError, match="back in service") as caught:
        sagemaker.deploy(make_version("v2"), smoke=unanswered)
    assert caught.value.transient
    assert state_of(sagemaker, endpoint).config_name == first.config_name


def test_a_first_version_that_fails_its_smoke_request_does_not_serve(
    sagemaker, make_version, endpoint
) -> None:
    with pytest.raises(SmokeTestError, match="has been deleted"):
        sagemaker.deploy(make_version("v1"), smoke=broken_smoke)

    assert sagemaker.describe_endpoint(endpoint) is None


class Interruption(BaseException):
    """As Dagster's own interruption: no Exception."""


def test_a_deploy_that_was_cut_off_before_its_proof_is_proved_by_the_next(
    sagemaker, make_version, endpoint
) -> None:
    def interrupted(invoke: Invoke) -> None:
        raise Interruption

    first = sagemaker.deploy(make_version("v1"), smoke=smoke)
    with pytest.raises(Interruption):
        sagemaker.deploy(make_version("v2"), smoke=interrupted)
    with pytest.raises(SmokeTestError):
        sagemaker.deploy(make_version("v2"), smoke=broken_smoke)
    assert state_of(sagemaker, endpoint).config_name == first.config_name

    with pytest.raises(Interruption):
        sagemaker.deploy(make_version("v2"), smoke=interrupted)
    assert sagemaker.deploy(make_version("v2"), smoke=smoke).outcome == "attached"
    assert sagemaker.deploy(make_version("v2"), smoke=broken_smoke).outcome == "unchanged"


def test_of_two_deploys_at_once_one_wins_and_the_other_says_so(
    sagemaker, make_version, endpoint, faults
) -> None:
    sagemaker.deploy(make_version("v1"))
    with faults(sagemaker, "slow-start=6", operation="UpdateEndpoint"):
        thread, outcomes = deploy_in_background(lambda: sagemaker.deploy(make_version("v2")))
        wait_until(lambda: state_of(sagemaker, endpoint).changing)
        with pytest.raises(DeployConflictError, match=rf"Updating to {endpoint}-v2-") as caught:
            sagemaker.deploy(make_version("v3"))
        assert sagemaker.deploy(make_version("v2")).outcome == "attached", "the same is no conflict"
        thread.join(timeout=PATIENCE_SECONDS)

    assert caught.value.transient
    (winner,) = outcomes
    assert isinstance(winner, Deployment)
    assert state_of(sagemaker, endpoint).config_name == winner.config_name


def test_two_first_deploys_at_once_make_one_endpoint(
    sagemaker, make_version, endpoint, faults
) -> None:
    with faults(sagemaker, "slow-start=6", operation="CreateEndpoint"):
        thread, outcomes = deploy_in_background(lambda: sagemaker.deploy(make_version("v1")))
        wait_until(lambda: sagemaker.describe_endpoint(endpoint) is not None)
        with pytest.raises(DeployConflictError, match="Creating to"):
            sagemaker.deploy(make_version("v2"))
        thread.join(timeout=PATIENCE_SECONDS)

    (winner,) = outcomes
    assert isinstance(winner, Deployment)
    assert winner.version == "v1"


def test_a_deploy_that_is_still_on_its_way_at_the_deadline_can_be_attached_to(
    sagemaker, make_version, endpoint, faults
) -> None:
    with (
        faults(sagemaker, "slow-start=6", operation="CreateEndpoint"),
        pytest.raises(DeployDeadlineError, match="still Creating") as caught,
    ):
        sagemaker.deploy(make_version("v1", deadline_seconds=0.5))
    assert caught.value.transient

    assert sagemaker.deploy(make_version("v1"), smoke=smoke).outcome == "attached"


def test_what_somebody_changed_by_hand_is_put_right(sagemaker, make_version, endpoint) -> None:
    first = sagemaker.deploy(make_version("v1"))
    second = sagemaker.deploy(make_version("v2"))
    control = sagemaker.clients.control
    control.update_endpoint(EndpointName=endpoint, EndpointConfigName=first.config_name)
    wait_until(lambda: not state_of(sagemaker, endpoint).changing)

    assert sagemaker.deploy(make_version("v2")).outcome == "updated"
    assert state_of(sagemaker, endpoint).config_name == second.config_name


def test_a_config_of_our_name_with_other_contents_is_not_taken_for_ours(
    sagemaker, make_version, trained
) -> None:
    spec = make_version("v1")
    plan = spec.plan(sagemaker.role_arn, {})
    control = sagemaker.clients.control
    model = plan.model_name
    control.create_model(ModelName=model, **plan.model)
    control.create_endpoint_config(
        EndpointConfigName=plan.config_name,
        ProductionVariants=[plan.config["ProductionVariants"][0] | {"InitialInstanceCount": 3}],
    )
    try:
        with pytest.raises(EndpointError, match="InitialInstanceCount"):
            sagemaker.deploy(spec)
    finally:
        control.delete_endpoint_config(EndpointConfigName=plan.config_name)
        control.delete_model(ModelName=model)


def test_a_model_without_its_artifact_is_refused_in_sagemakers_words(
    sagemaker, make_version, trained
) -> None:
    spec = make_version("v1")
    container = spec.container.model_copy(update={"model_data_url": f"{trained.artifact_uri}.no"})

    with pytest.raises(RefusedError, match="Could not find model data"):
        sagemaker.deploy(spec.model_copy(update={"container": container}))


def test_a_canary_update_shifts_traffic_and_ends_on_the_new_version(
    sagemaker, make_version, endpoint
) -> None:
    two = [Variant(instances=Instances(instance_count=2))]
    dimensions = {"EndpointName": endpoint, "VariantName": "AllTraffic"}
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName="too-slow",
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=60e6,
        ComparisonOperator="GreaterThanThreshold",
    )
    update = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
                "WaitIntervalInSeconds": 1,
            },
            "TerminationWaitInSeconds": 0,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "too-slow"}]},
    }
    sagemaker.deploy(make_version("v1", variants=two))
    second = sagemaker.deploy(make_version("v2", variants=two, update=update), smoke=smoke)

    described = sagemaker.clients.control.describe_endpoint(EndpointName=endpoint)
    assert described["EndpointConfigName"] == second.config_name
    assert described["LastDeploymentConfig"] == update


def test_weighted_variants_and_data_capture(sagemaker, make_version, endpoint, bucket) -> None:
    variants = [Variant(name=name, weight=weight) for name, weight in [("blue", 3), ("green", 1)]]
    sagemaker.deploy(make_version("v1", variants=variants), smoke=smoke)

    assert state_of(sagemaker, endpoint).variants.keys() == {"blue", "green"}
    answer = sagemaker.invoke(endpoint, b"0,0", content_type="text/csv", target_variant="green")
    assert answer.variant == "green"
    capture = {
        # A line that is written late would keep the bucket from being removed.
        "EnableCapture": False,
        "InitialSamplingPercentage": 5,
        "DestinationS3Uri": f"s3://{bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    extra = {"DataCaptureConfig": capture}
    captured = sagemaker.deploy(make_version("v2", extra_request=extra), smoke=smoke)
    config = sagemaker.clients.control.describe_endpoint_config(
        EndpointConfigName=captured.config_name
    )
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 5


def test_rolling_back_again_and_again_leads_further_back(sagemaker, make_version, endpoint) -> None:
    for version in ["v1", "v2", "v3"]:
        sagemaker.deploy(make_version(version))
    back = sagemaker.rollback(endpoint, smoke=smoke)
    assert (back.outcome, back.version) == ("rolled back", "v2")
    assert sagemaker.rollback(endpoint).version == "v1"
    with pytest.raises(EndpointError, match="still there: v3, v2, v1"):
        sagemaker.rollback(endpoint)
    assert rolled_back(sagemaker, endpoint) == {"v2", "v3"}

    assert sagemaker.rollback(endpoint, to="v3").version == "v3"
    assert sagemaker.rollback(endpoint, to="v3").outcome == "unchanged"
    with pytest.raises(EndpointError, match="no version v9"):
        sagemaker.rollback(endpoint, to="v9")


def test_a_rollback_that_fails_leaves_what_was_live(
    sagemaker, make_version, endpoint, faults
) -> None:
    sagemaker.deploy(make_version("v1"))
    second = sagemaker.deploy(make_version("v2"))
    with (
        faults(sagemaker, "endpoint-failure", operation="UpdateEndpoint"),
        pytest.raises(EndpointError, match="was not updated"),
    ):
        sagemaker.rollback(endpoint)

    assert state_of(sagemaker, endpoint).config_name == second.config_name
    assert rolled_back(sagemaker, endpoint) == set()


def rolled_back(sagemaker: SageMakerResource, endpoint: str) -> set[str]:
    return {item.version for item in sagemaker.list_versions(endpoint) if item.rolled_back_at}


def test_a_rollback_that_is_cut_off_keeps_what_is_newer_out_all_the_same(
    sagemaker, make_version, endpoint
) -> None:
    def interrupted(invoke: Invoke) -> None:
        raise Interruption

    first = sagemaker.deploy(make_version("v1"))
    sagemaker.deploy(make_version("v2"))
    with pytest.raises(Interruption):
        sagemaker.rollback(endpoint, smoke=interrupted)
    assert state_of(sagemaker, endpoint).config_name == first.config_name
    assert rolled_back(sagemaker, endpoint) == {"v2"}


def test_a_rollback_to_what_is_live_keeps_what_is_newer_out(
    sagemaker, make_version, endpoint
) -> None:
    sagemaker.deploy(make_version("v1"))
    with pytest.raises(SmokeTestError):
        sagemaker.deploy(make_version("v2"), smoke=broken_smoke)
    assert sagemaker.rollback(endpoint, to="v1").outcome == "unchanged"
    assert rolled_back(sagemaker, endpoint) == {"v2"}


def test_a_rollback_that_fails_its_smoke_request_takes_nothing_newer_out(
    sagemaker, make_version, endpoint
) -> None:
    sagemaker.deploy(make_version("v1"))
    sagemaker.deploy(make_version("v2"))
    with pytest.raises(SmokeTestError):
        sagemaker.rollback(endpoint, smoke=broken_smoke)
    assert rolled_back(sagemaker, endpoint) == set()


def test_an_endpoint_that_is_not_there_cannot_be_rolled_back_described_or_asked(
    sagemaker, unique
) -> None:
    name = f"{unique}-none"
    with pytest.raises(EndpointError, match="does not exist"):
        sagemaker.rollback(name)
    assert sagemaker.describe_endpoint(name) is None
    with pytest.raises(NotFoundError):
        sagemaker.invoke(name, b"0,0", content_type="text/csv")


def test_a_teardown_leaves_the_versions_or_nothing_at_all(
    sagemaker, make_version, endpoint
) -> None:
    sagemaker.deploy(make_version("v1"))
    assert sagemaker.teardown(endpoint)
    assert sagemaker.describe_endpoint(endpoint) is None
    assert [version.version for version in sagemaker.list_versions(endpoint)] == ["v1"]

    assert sagemaker.deploy(make_version("v1"), smoke=smoke).outcome == "created"
    assert sagemaker.teardown(endpoint, versions_too=True)
    assert sagemaker.list_versions(endpoint) == []
    models = sagemaker.clients.control.list_models(NameContains=endpoint)["Models"]
    assert models == []
    assert not sagemaker.teardown(endpoint)


def test_a_teardown_in_the_middle_of_an_update_waits_for_it(
    sagemaker, make_version, endpoint, faults
) -> None:
    sagemaker.deploy(make_version("v1"))
    with faults(sagemaker, "slow-start=6", operation="UpdateEndpoint"):
        thread, _ = deploy_in_background(lambda: sagemaker.deploy(make_version("v2")))
        wait_until(lambda: state_of(sagemaker, endpoint).changing)
    assert sagemaker.teardown(endpoint, deadline_seconds=PATIENCE_SECONDS)
    thread.join(timeout=PATIENCE_SECONDS)
    assert sagemaker.describe_endpoint(endpoint) is None


def test_what_the_model_refuses_comes_back_in_its_words(sagemaker, make_version, endpoint) -> None:
    sagemaker.deploy(make_version("v1"))

    with pytest.raises(RefusedError, match="ModelError") as caught:
        sagemaker.invoke(endpoint, b"1,2,3", content_type="text/csv")
    assert not caught.value.transient
