"""CloudWatch's requests about metrics: to put data, to get it in two ways, to list metrics."""

import math
import time

from sagemaker_local.aws_errors import AwsError
from sagemaker_local.context import Context
from sagemaker_local.metrics import Metric, Statistics
from sagemaker_local.store import Document

_STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_FUTURE_SECONDS = 2 * 3600
_DAY_SECONDS = 24 * 3600


def put(context: Context, request: Document) -> Document:
    """PutMetricData: all of it, or none where one is refused."""
    namespace = request["Namespace"]
    if namespace.startswith("AWS/"):
        raise _invalid("The value AWS/ for parameter Namespace is invalid.")
    if request.get("EntityMetricData"):
        raise _invalid("EntityMetricData is not supported here: put MetricData.")
    checked = [(datum, _samples(datum)) for datum in request.get("MetricData", [])]
    for datum, samples in checked:
        metric, unit = Metric.parse(namespace, datum), datum.get("Unit", "None")
        for sample in samples:
            context.metrics.add(metric, sample, unit, datum.get("Timestamp"))
    return {}


def get_metric_statistics(context: Context, request: Document) -> Document:
    """GetMetricStatistics, by whole minutes."""
    if "ExtendedStatistics" in request or "Statistics" not in request:
        raise _invalid("Statistics are needed; percentiles are not supported here.")
    metric = Metric.parse(request["Namespace"], request)
    unit = context.metrics.units().get(metric, "None")
    datapoints = [
        {"Timestamp": at, "Unit": unit}
        | {statistic: data.value(statistic) for statistic in request["Statistics"]}
        for at, data in _by_period(context, metric, request, request)
    ]
    return {"Label": request["MetricName"], "Datapoints": datapoints}


def get_metric_data(context: Context, request: Document) -> Document:
    """GetMetricData, without expressions."""
    results: list[Document] = []
    for query in request["MetricDataQueries"]:
        if "MetricStat" not in query:
            raise _invalid("Expressions are not supported here: give a MetricStat.")
        if not query.get("ReturnData", True):
            continue
        asked = query["MetricStat"]
        if asked["Stat"] not in _STATISTICS:
            raise _invalid(f"Stat must be one of {', '.join(_STATISTICS)} here.")
        metric = Metric.parse(asked["Metric"].get("Namespace", ""), asked["Metric"])
        points = _by_period(context, metric, request, asked)
        if request.get("ScanBy") != "TimestampAscending":
            points.reverse()
        results.append(
            {
                "Id": query["Id"],
                "Label": query.get("Label", metric.name),
                "Timestamps": [at for at, _ in points],
                "Values": [data.value(asked["Stat"]) for _, data in points],
                "StatusCode": "Complete",
            }
        )
    return {"MetricDataResults": results, "Messages": []}


def list_metrics(context: Context, request: Document) -> Document:
    """ListMetrics, in one page."""
    metrics = [
        {
            "Namespace": metric.namespace,
            "MetricName": metric.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
        }
        for metric in context.metrics.units()
        if request.get("Namespace") in (None, metric.namespace)
        and request.get("MetricName") in (None, metric.name)
        and all(_has(metric, wanted) for wanted in request.get("Dimensions", []))
    ]
    return {"Metrics": metrics}


def _has(metric: Metric, wanted: Document) -> bool:
    return any(
        name == wanted["Name"] and wanted.get("Value") in (None, value)
        for name, value in metric.dimensions
    )


def _samples(datum: Document) -> list[Statistics]:
    """The values of a MetricDatum."""
    forms = [form for form in ("Value", "StatisticValues", "Values") if form in datum]
    if len(forms) != 1:
        raise AwsError(
            "InvalidParameterCombinationException",
            "A metric datum needs one of Value, Values and StatisticValues.",
        )
    if datum.get("Timestamp", 0) > time.time() + _FUTURE_SECONDS:
        raise _invalid("Timestamp must specify a time no more than two hours in the future.")
    if "StatisticValues" in datum:
        given = datum["StatisticValues"]
        names = ("SampleCount", "Sum", "Minimum", "Maximum")
        samples = [Statistics(*(given[name] for name in names))]
    else:
        values = datum["Values"] if "Values" in datum else [datum["Value"]]
        counts = datum.get("Counts", [1.0] * len(values))
        if len(counts) != len(values):
            raise _invalid("Values and Counts must have the same length.")
        samples = [Statistics.of(value, count) for value, count in zip(values, counts, strict=True)]
    for sample in samples:
        if not math.isfinite(sample.total + sample.low + sample.high) or not sample.count > 0:
            raise _invalid("Values must be finite, and their counts greater than 0.")
    return samples


def _by_period(
    context: Context, metric: Metric, interval: Document, asked: Document
) -> list[tuple[float, Statistics]]:
    if interval["StartTime"] >= interval["EndTime"]:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    if asked["Period"] % 60 or asked["Period"] > _DAY_SECONDS:
        raise _invalid(
            "Period must be a multiple of 60, up to 86400: data is kept by the minute here."
        )
    return context.metrics.by_period(
        metric, asked.get("Unit"), interval["StartTime"], interval["EndTime"], asked["Period"]
    )


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)
