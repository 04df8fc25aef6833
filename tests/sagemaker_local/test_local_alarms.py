"""Alarms and metrics: what boto3 puts and gets, and states that follow from requests and data."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.loaders import Loader

from sagemaker_local import alarm_states
from sagemaker_local.metrics import Metric, Metrics, Statistics
from tests.sagemaker_local.rig import Server, alarm, refusal, unique, variant
from tests.sagemaker_local.test_local_contract_serving import ask, own_model
from tests.sagemaker_local.test_local_signing import send, signed

# The hour before and after, whatever the second.
HOUR = timedelta(hours=1)
GRANITE = "GraniteServiceVersion20100801"
CBOR = "smithy-rpc-v2-cbor"


@pytest.fixture(scope="module")
def in_cbor(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client that speaks CBOR as other SDKs do: boto3 prefers JSON, unless the model has none."""
    folder = tmp_path_factory.mktemp("models")
    model = dict(Loader().load_service_model("cloudwatch", "service-2"))
    protocols = {"protocol": CBOR, "protocols": [CBOR]}
    model["metadata"] = model["metadata"] | protocols
    path = folder / "cloudwatch" / model["metadata"]["apiVersion"] / "service-2.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(model))
    client = server.client("cloudwatch", AWS_DATA_PATH=str(folder))
    assert client.meta.service_model.resolved_protocol == CBOR
    return client


@pytest.fixture(params=["json", "cbor"])
def client(request: pytest.FixtureRequest, server: Server) -> Any:
    """A client of CloudWatch for each of its protocols."""
    return server.cloudwatch if request.param == "json" else request.getfixturevalue("in_cbor")


def interval() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"StartTime": now - HOUR, "EndTime": now + HOUR}


def pairs(**dimensions: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


def test_an_alarm_is_put_described_set_changed_and_deleted(client: Any) -> None:
    name = unique("alarm")
    request = alarm(name, unique("m"), AlarmDescription="errors", DatapointsToAlarm=1)
    client.put_metric_alarm(**request, Tags=[{"Key": "a", "Value": "b"}])
    client.get_waiter("alarm_exists").wait(AlarmNames=[name])
    (described,) = client.describe_alarms(AlarmNamePrefix=name)["MetricAlarms"]
    assert described.items() >= request.items()
    assert described["AlarmArn"].endswith(f":123456789012:alarm:{name}")

    # It holds for one period, which is 36 seconds on this server.
    client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")
    (described,) = client.describe_alarms(AlarmNames=[name], StateValue="ALARM")["MetricAlarms"]
    assert described["StateReason"] == "a drill"
    assert client.describe_alarms(AlarmNames=[name], StateValue="OK")["MetricAlarms"] == []
    client.put_metric_alarm(**request | {"Threshold": 5.5})
    (described,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (described["StateValue"], described["Threshold"]) == ("ALARM", 5.5)

    with pytest.raises(client.exceptions.ResourceNotFound):
        client.delete_alarms(AlarmNames=[name, "none"])
    client.delete_alarms(AlarmNames=[name])
    assert client.describe_alarms(AlarmNames=[name])["MetricAlarms"] == []
    with pytest.raises(client.exceptions.ResourceNotFound):
        client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="")


def test_a_state_that_was_set_ends_with_the_next_judgement(server: Server) -> None:
    name = unique("alarm")
    server.cloudwatch.put_metric_alarm(**alarm(name, unique("m"), Period=60))
    server.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")
    reason = server.until_alarm(name, "OK")["StateReason"]
    assert reason == (
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was "
        "treated as [NonBreaching]."
    )


def test_alarms_come_in_pages_by_name(server: Server) -> None:
    prefix = unique("page")
    names = [f"{prefix}-{number}" for number in range(5)]
    for name in reversed(names):
        server.cloudwatch.put_metric_alarm(**alarm(name, "m"))
    pages = server.cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    assert [one["AlarmName"] for page in pages for one in page["MetricAlarms"]] == names
    server.cloudwatch.delete_alarms(AlarmNames=names)


def test_errors_of_a_model_put_its_alarm_into_alarm(image_server: Server, store: str) -> None:
    endpoint = image_server.deploy(unique("c"), variant(own_model(image_server, store)))
    request = alarm(
        unique("alarm"),
        "Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Dimensions=pairs(EndpointName=endpoint, VariantName="AllTraffic"),
    )
    name = request["AlarmName"]
    client = image_server.cloudwatch
    client.put_metric_alarm(**request)
    image_server.until_alarm(name, "OK")
    ask(image_server, endpoint)
    refusal(lambda: ask(image_server, endpoint, "status", status=404, text=""))
    refusal(lambda: ask(image_server, endpoint, "status", status=500, text=""))
    reason = image_server.until_alarm(name, "ALARM")["StateReason"]
    assert reason.startswith("Threshold Crossed: 1 out of the last 1 datapoints [1.0 (")
    assert reason.endswith(" was greater than the threshold (0.0).")
    client.put_metric_alarm(**request | {"Threshold": 1.0})
    assert "was not greater than" in image_server.until_alarm(name, "OK")["StateReason"]

    def total(metric: str, statistic: str = "Sum") -> float:
        points = client.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=request["Dimensions"],
            Period=7200,
            Statistics=[statistic],
            **interval(),
        )["Datapoints"]
        return sum(point[statistic] for point in points)

    counted = [total(f"Invocation{what}") for what in ("s", "4XXErrors", "5XXErrors")]
    assert counted == [3, 1, 1]
    assert total("Invocation5XXErrors", "SampleCount") == 3
    assert total("ModelLatency", "Minimum") > 0
    client.delete_alarms(AlarmNames=[name])


def test_an_alarm_on_ones_own_metric_follows_its_data(server: Server) -> None:
    client, name, metric = server.cloudwatch, unique("alarm"), unique("accuracy")
    dimensions = pairs(Model="a")
    client.put_metric_alarm(
        **alarm(
            name,
            metric,
            Statistic="Average",
            Threshold=0.9,
            ComparisonOperator="LessThanThreshold",
            TreatMissingData="missing",
            Dimensions=dimensions,
        )
    )
    (described,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert described["StateValue"] == "INSUFFICIENT_DATA"

    def put(value: float, dimensions: list[dict[str, str]]) -> None:
        datum = {"MetricName": metric, "Value": value, "Dimensions": dimensions}
        client.put_metric_data(Namespace="Tests", MetricData=[datum])

    put(0.1, pairs(Model="b"))
    put(0.95, dimensions)
    reason = server.until_alarm(name, "OK")["StateReason"]
    assert "[0.95 (" in reason
    put(0.55, dimensions)
    reason = server.until_alarm(name, "ALARM")["StateReason"]
    assert "[0.75 (" in reason
    assert "was less than the threshold (0.9)" in reason
    client.delete_alarms(AlarmNames=[name])


def test_metrics_are_put_in_every_form_and_got_back(client: Any) -> None:
    """A hundred data at once, which boto3 packs by gzip."""
    namespace = unique("Forms")
    now = datetime.now(UTC)
    client.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": "m", "Value": 2, "Unit": "Seconds"},
            {"MetricName": "m", "Values": [4, 5], "Counts": [3, 1], "Unit": "Seconds"},
            {
                "MetricName": "m",
                "StatisticValues": {"SampleCount": 5, "Sum": 3, "Minimum": -1, "Maximum": 1},
                "Unit": "Seconds",
            },
            {"MetricName": "m", "Value": 7, "Timestamp": now - timedelta(hours=4)},
            *(
                {"MetricName": f"many-{number}", "Value": number, "Dimensions": pairs(N="x" * 99)}
                for number in range(100)
            ),
        ],
    )
    statistics = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"]
    answer = client.get_metric_statistics(
        Namespace=namespace, MetricName="m", Period=7200, Statistics=statistics, **interval()
    )
    points = answer["Datapoints"]
    assert sum(point["Sum"] for point in points) == 22
    assert sum(point["SampleCount"] for point in points) == 10
    assert (points[0]["Minimum"], points[0]["Maximum"], points[0]["Average"]) == (-1, 5, 2.2)
    assert abs(points[0]["Timestamp"] - now) <= 2 * HOUR

    query = {
        "Id": "q",
        "MetricStat": {
            "Metric": {"Namespace": namespace, "MetricName": "m"},
            "Period": 7200,
            "Stat": "Sum",
        },
    }
    (result,) = client.get_metric_data(MetricDataQueries=[query], **interval())["MetricDataResults"]
    assert result["Values"] == [22]
    assert result["Timestamps"] == [point["Timestamp"] for point in points]
    listed = client.list_metrics(Namespace=namespace)["Metrics"]
    assert len(listed) == 101
    assert client.list_metrics(Namespace=namespace, Dimensions=[{"Name": "M"}])["Metrics"] == []
    (one,) = client.list_metrics(Namespace=namespace, MetricName="many-7")["Metrics"]
    assert one["Dimensions"] == pairs(N="x" * 99)


def test_a_body_that_is_no_cbor_is_refused(server: Server) -> None:
    request = signed(
        server,
        service="monitoring",
        body=b"\xff{",
        path=f"/service/{GRANITE}/operation/ListMetrics",
    )
    answer = send(request)
    assert answer.status_code == 400
    assert answer.headers["x-amzn-query-error"] == "SerializationException;Sender"


def test_a_value_that_is_no_number_is_refused(in_cbor: Any) -> None:
    datum = {"MetricName": "m", "Value": float("nan")}
    error = refusal(lambda: in_cbor.put_metric_data(Namespace="N", MetricData=[datum]))["Error"]
    assert error["Code"] == "InvalidParameterValue"
    assert "finite" in error["Message"]


REFUSED: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "a percentile": (
        lambda client: client.put_metric_alarm(
            **alarm("a", "m", Statistic=None, ExtendedStatistic="p99")
        ),
        "ValidationError",
        "ExtendedStatistic is not supported",
    ),
    "an alarm without a metric": (
        lambda client: client.put_metric_alarm(**alarm("a", "m", MetricName=None)),
        "ValidationError",
        "MetricName is required",
    ),
    "a period of 45 seconds": (
        lambda client: client.put_metric_alarm(**alarm("a", "m", Period=45)),
        "ValidationError",
        "Period must be 10, 20, 30 or a multiple of 60",
    ),
    "half a day": (
        lambda client: client.put_metric_alarm(**alarm("a", "m", EvaluationPeriods=12)),
        "ValidationError",
        "three hours",
    ),
    "2 of 1": (
        lambda client: client.put_metric_alarm(**alarm("a", "m", DatapointsToAlarm=2)),
        "ValidationError",
        "DatapointsToAlarm",
    ),
    "a treatment of missing data": (
        lambda client: client.put_metric_alarm(**alarm("a", "m", TreatMissingData="guess")),
        "ValidationError",
        "TreatMissingData must be one of breaching, ",
    ),
    "an anomaly": (
        lambda client: client.put_metric_alarm(
            **alarm("a", "m", ComparisonOperator="LessThanLowerThreshold")
        ),
        "ValidationError",
        "ComparisonOperator must be one of",
    ),
    "a state that no alarm has": (
        lambda client: client.set_alarm_state(AlarmName="a", StateValue="WELL", StateReason=""),
        "ValidationError",
        "enum value set",
    ),
    "metrics of AWS": (
        lambda client: client.put_metric_data(Namespace="AWS/SageMaker", MetricData=[]),
        "InvalidParameterValue",
        "Namespace",
    ),
    "no value": (
        lambda client: client.put_metric_data(Namespace="N", MetricData=[{"MetricName": "m"}]),
        "InvalidParameterCombination",
        "one of Value",
    ),
    "another operation": (
        lambda client: client.list_dashboards(),
        "UnknownOperationException",
        "ListDashboards is not known here",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_offered_is_refused_in_a_sentence(client: Any, what: str) -> None:
    call, code, words = REFUSED[what]
    error = refusal(lambda: call(client))["Error"]
    assert error["Code"] == code
    assert words in error["Message"]


def test_a_wrong_secret_and_a_wrong_service_are_refused(server: Server) -> None:
    client = server.client("cloudwatch", AWS_SECRET_ACCESS_KEY="wrong")
    answer = refusal(client.describe_alarms)
    assert answer["Error"]["Code"] == "InvalidSignatureException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    request = signed(server, body=b"{}", target=f"{GRANITE}.ListMetrics")
    assert "correct service: 'monitoring'" in send(request).json()["message"]


# AWS's own tables: the newest first, X breaches and - is missing.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
@pytest.mark.parametrize(
    ("data", "needed", "missing", "ignore", "breaching", "not_breaching"),
    [
        ("X0X", 3, "OK", "OK", "OK", "OK"),
        ("0--", 3, "OK", "OK", "OK", "OK"),
        ("---", 3, "INSUFFICIENT_DATA", None, "ALARM", "OK"),
        ("XXX", 3, "ALARM", "ALARM", "ALARM", "ALARM"),
        ("--X", 3, "ALARM", None, "ALARM", "OK"),
        ("X0X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
        ("-X0", 2, "OK", "OK", "ALARM", "OK"),
        ("0--", 2, "OK", "OK", "ALARM", "OK"),
        ("-X-", 2, "ALARM", None, "ALARM", "OK"),
    ],
)
def test_missing_data_is_treated_as_on_aws(
    data: str,
    needed: int,
    missing: str,
    ignore: str | None,
    breaching: str,
    not_breaching: str,
) -> None:
    values = [(0.0, {"X": 1.0, "0": 0.0, "-": None}[point]) for point in data]
    expected = {
        "missing": missing,
        "ignore": ignore,
        "breaching": breaching,
        "notBreaching": not_breaching,
    }
    for treatment, state in expected.items():
        request = alarm(
            "a", "m", EvaluationPeriods=3, DatapointsToAlarm=needed, TreatMissingData=treatment
        )
        judged = alarm_states.judge(request, values)
        assert (judged and judged["StateValue"]) == state, treatment


def test_metrics_take_a_limited_amount_of_memory() -> None:
    """Three hours of each, and the five hundred that had data last."""
    metrics = Metrics(1.0)
    now = time.time()
    first = Metric("N", "first", ())
    for minute in range(1000):
        metrics.add(first, Statistics.of(1.0), at=now - 60 * minute)
    kept = metrics.by_period(first, None, 0.0, now + 60, 60)
    assert 180 <= len(kept) <= 181
    for number in range(600):
        metrics.add(Metric("N", str(number), ()), Statistics.of(1.0))
    names = {metric.name for metric in metrics.units()}
    assert names == {str(number) for number in range(100, 600)}
