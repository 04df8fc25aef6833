"""Guarded updates: an alarm puts all traffic back to the old fleet, and no request fails by it."""

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import BotoCoreError

from formats import ndarray_file
from tests.sagemaker_local.rig import (
    DIMENSIONS,
    IMAGE,
    ROLE,
    Server,
    alarm,
    as_csv,
    refusal,
    unique,
    variant,
    wait_until_ended,
)
from tests.sagemaker_local.test_local_contract_serving import ask, own_model

SCALE = "EMBEDDED_SAGEMAKER_WAIT_SCALE"
REQUESTS = 10_000


def guarded(name: str, kind: str = "CANARY", percent: int = 10) -> dict[str, Any]:
    """A DeploymentConfig with an hour for each step and at the end, and an alarm."""
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": 3600}
    if kind == "CANARY":
        routing["CanarySize"] = {"Type": "CAPACITY_PERCENT", "Value": percent}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": 3600,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name}]},
    }


def new_config(server: Server, model: str) -> str:
    name = unique("config")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant(model)]
    )
    return name


def trip(server: Server, name: str) -> None:
    server.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")


def version(server: Server, endpoint: str) -> str:
    return json.loads(ask(server, endpoint))["environment"]["VERSION"]


@pytest.fixture
def slow_server(own_image_server: Server) -> Server:
    """A server for one test that runs any image, and waits as long as AWS does."""
    own_image_server.extra = {**own_image_server.extra, SCALE: "1"}
    own_image_server.start()
    return own_image_server


def updating(server: Server, bucket: str, kind: str) -> tuple[str, str]:
    """An endpoint in the middle of an update from version 1 to 2.

    Returns:
        Its name, which is its alarm's, too, and the configuration of version 1.
    """
    old, new = (
        new_config(server, own_model(server, bucket, VERSION=number)) for number in ("1", "2")
    )
    name = unique("alarm")
    server.cloudwatch.put_metric_alarm(**alarm(name, "m"))
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=old)
    server.in_service(name)
    server.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=new, DeploymentConfig=guarded(name, kind, 50)
    )
    while version(server, name) != "2":
        pass
    return name, old


def digits_model(server: Server, bucket: str, *, bad: bool) -> str:
    """A model of k-means that has a centroid at 100 on the axis of each digit.

    The digit is the number of the centroid modulo 10. The bad one takes each digit for the next,
    and has numbers from 10 on, so that its answers are known as its own.
    """
    here = 100 * np.eye(10, DIMENSIONS, dtype=np.float32)
    away = np.full((10, DIMENSIONS), 1e6, np.float32)
    centroids = np.concatenate([away, np.roll(here, 1, axis=0)]) if bad else here
    name = unique("bad" if bad else "good")
    key = f"{name}/model.tar.gz"
    server.s3.put_object(Bucket=bucket, Key=key, Body=ndarray_file.pack_model(centroids))
    server.sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/{key}"},
        ExecutionRoleArn=ROLE,
    )
    return name


@pytest.mark.minutes
def test_a_bad_model_is_back_within_its_baking_time_under_ten_thousand_requests(
    own_server: Server, store: str
) -> None:
    """It answers, but wrongly: whoever asks says so by a metric of their own."""
    # An hour takes three minutes; the canary ends as soon as a hundred answers are wrong.
    own_server.extra = {**own_server.extra, SCALE: "0.05"}
    own_server.start()
    good, bad = (
        new_config(own_server, digits_model(own_server, store, bad=bad)) for bad in (False, True)
    )
    name = "digits"
    own_server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=good)
    own_server.in_service(name)
    own_server.cloudwatch.put_metric_alarm(**alarm(name, "Wrong", Threshold=99.0))
    bodies = [as_csv(100 * np.eye(1, DIMENSIONS, digit, dtype=np.float32)) for digit in range(10)]

    def asked(_: object = None) -> tuple[int, int]:
        """A digit, and the number of the nearest centroid."""
        digit = random.randrange(10)
        answer = own_server.runtime.invoke_endpoint(
            EndpointName=name, ContentType="text/csv", Accept="text/csv", Body=bodies[digit]
        )
        number = int(float(answer["Body"].read().split(b",")[0]))
        if number % 10 != digit:
            own_server.cloudwatch.put_metric_data(
                Namespace="Tests", MetricData=[{"MetricName": "Wrong", "Value": 1}]
            )
        return digit, number

    own_server.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=bad, DeploymentConfig=guarded(name)
    )
    answers = [asked()]
    while answers[-1][1] < 10:
        answers.append(asked())
    with ThreadPoolExecutor(4) as pool:
        answers += pool.map(asked, range(REQUESTS))

    description = own_server.in_service(name)
    assert description["EndpointConfigName"] == good
    assert f"the CloudWatch alarm {name} is in ALARM state" in description["FailureReason"]
    last = [asked() for _ in range(100)]
    answers += last
    assert all(number == digit for digit, number in last)
    strange = Counter(
        (digit, number) for digit, number in answers if number not in (digit, 10 + (digit + 1) % 10)
    )
    assert not strange
    wrong = sum(number >= 10 for _, number in answers)
    # All of the ten thousand would have met about a thousand.
    assert 100 <= wrong < 800
    assert counted(own_server, name) == [len(answers), 0, 0]
    assert counted(own_server, name, EndpointConfigName=bad) == [wrong, 0, 0]


def counted(server: Server, endpoint: str, **more: str) -> list[float]:
    """Requests, and errors of the one side and of the other."""
    dimensions = {"EndpointName": endpoint, "VariantName": "AllTraffic", **more}
    totals: list[float] = []
    for metric in ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors"):
        points = server.cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=datetime.now(UTC) - timedelta(hours=2),
            EndTime=datetime.now(UTC) + timedelta(hours=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        totals.append(sum(point["Sum"] for point in points))
    return totals


def test_an_update_goes_on_after_a_kill_and_can_still_be_rolled_back(
    slow_server: Server, store: str
) -> None:
    name, old = updating(slow_server, store, "CANARY")
    (before,) = slow_server.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert wait_until_ended(slow_server.kill())
    slow_server.start()
    (after,) = slow_server.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (
        after["AlarmConfigurationUpdatedTimestamp"] == before["AlarmConfigurationUpdatedTimestamp"]
    )
    while not serves(slow_server, name, "2"):
        pass
    assert serves(slow_server, name, "1")
    trip(slow_server, name)
    description = slow_server.in_service(name)
    assert description["EndpointConfigName"] == old
    assert description["FailureReason"].endswith(f"alarm {name} is in ALARM state: a drill")
    assert {version(slow_server, name) for _ in range(20)} == {"1"}


def serves(server: Server, endpoint: str, wanted: str) -> bool:
    """Whether one of some answers is of this version; False while there is none after a start."""
    for _ in range(30):
        try:
            if version(server, endpoint) == wanted:
                return True
        except server.runtime.exceptions.ModelNotReadyException:
            return False
    return False


def test_the_old_fleet_is_there_to_go_back_to_while_the_new_one_serves_all(
    slow_server: Server, store: str
) -> None:
    """Going back waits for requests that the new fleet has, and is remembered over a kill."""
    name, old = updating(slow_server, store, "ALL_AT_ONCE")
    assert {version(slow_server, name) for _ in range(10)} == {"2"}
    description = slow_server.sagemaker.describe_endpoint(EndpointName=name)
    assert description["EndpointStatus"] == "Updating"
    hanging = threading.Thread(target=hang, args=(slow_server, name))
    hanging.start()
    until_it_hangs(slow_server, name)

    trip(slow_server, name)
    while description["EndpointStatus"] == "Updating":
        description = slow_server.sagemaker.describe_endpoint(EndpointName=name)
    assert description["EndpointStatus"] == "RollingBack"
    assert {version(slow_server, name) for _ in range(10)} == {"1"}
    assert wait_until_ended(slow_server.kill())
    hanging.join()

    slow_server.start()
    description = slow_server.in_service(name)
    assert description["EndpointConfigName"] == old
    assert name in description["FailureReason"]
    assert description["LastDeploymentConfig"] == guarded(name, "ALL_AT_ONCE")
    while not serves(slow_server, name, "1"):
        pass
    assert not serves(slow_server, name, "2")


def hang(server: Server, endpoint: str) -> None:
    """A request that gets no answer before the server is killed."""
    with pytest.raises(BotoCoreError):
        server.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, Body=json.dumps({"do": "say_and_hang", "text": "waiting"})
        )


def until_it_hangs(server: Server, endpoint: str) -> None:
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    while not server.logs.filter_log_events(logGroupName=group, filterPattern="waiting")["events"]:
        pass


def test_an_alarm_that_is_in_alarm_before_lets_no_request_through(
    slow_server: Server, store: str
) -> None:
    models = [own_model(slow_server, store, VERSION=number) for number in ("1", "2")]
    old, new = (new_config(slow_server, model) for model in models)
    name = unique("alarm")
    unknown = refusal(
        lambda: slow_server.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=old, DeploymentConfig=guarded(name)
        )
    )
    assert 'Could not find alarm "arn:aws:cloudwatch:' in unknown["Error"]["Message"]
    slow_server.cloudwatch.put_metric_alarm(**alarm(name, "m"))
    slow_server.sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=old, DeploymentConfig=guarded(name)
    )
    slow_server.in_service(name)
    update = {"EndpointName": name, "EndpointConfigName": new}
    unknown = refusal(
        lambda: slow_server.sagemaker.update_endpoint(**update, DeploymentConfig=guarded("none"))
    )
    assert "Could not find alarm" in unknown["Error"]["Message"]

    trip(slow_server, name)
    slow_server.sagemaker.update_endpoint(**update, RetainDeploymentConfig=True)
    description = slow_server.in_service(name)
    assert description["EndpointConfigName"] == old
    assert "a drill" in description["FailureReason"]
    dimensions = {"EndpointConfigName": new}
    assert counted(slow_server, name, **dimensions) == [0, 0, 0]
