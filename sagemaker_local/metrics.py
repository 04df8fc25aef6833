"""Metrics in memory: what endpoints count of requests, and what clients put.

Data is kept twice: by the minute, for clients, and in steps of ten seconds times `wait_scale`, for
alarms, whose periods are scaled like the waits of deployments. Requests about metrics are in
metric_requests.py.
"""

import threading
import time
from dataclasses import dataclass, replace
from typing import Self

from sagemaker_local.store import Document

# Real seconds for clients, scaled ones for alarms.
KEPT_SECONDS = 3 * 3600
# The shortest period of an alarm on AWS, in scaled seconds.
_STEP_SECONDS = 10.0
_LEAST_STEP_SECONDS = 0.05
_MOST_STEPS = KEPT_SECONDS / _STEP_SECONDS + 1
_MINUTE = 60.0
# About 350 kB each where data never ceases; beyond it, the one that was silent for longest goes.
_MOST_METRICS = 500


@dataclass(frozen=True)
class Metric:
    """What a metric is known by.

    Attributes:
        dimensions: Names and values, sorted.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, namespace: str, item: Document) -> Self:
        """The metric of an item with `MetricName` and maybe `Dimensions`."""
        pairs = ((one["Name"], one["Value"]) for one in item.get("Dimensions", []))
        return cls(namespace, item["MetricName"], tuple(sorted(pairs)))


@dataclass(slots=True)
class Statistics:
    """What is known of some values."""

    count: float
    total: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, count: float = 1.0) -> Self:
        """Of the same value, so many times."""
        return cls(count, value * count, value, value)

    def add(self, other: Self) -> None:
        """Adds the values of the other."""
        self.count += other.count
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def value(self, statistic: str) -> float:
        """A statistic by CloudWatch's name of it."""
        if statistic == "Average":
            return self.total / self.count if self.count else 0.0
        return {
            "SampleCount": self.count,
            "Sum": self.total,
            "Minimum": self.low,
            "Maximum": self.high,
        }[statistic]


class _Steps:
    """Statistics for each step of time that has data."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[int, Statistics] = {}

    def add(self, at: float, sample: Statistics, oldest: float) -> None:
        step = int(at // self._seconds)
        if step in self._kept:
            self._kept[step].add(sample)
            return
        end = int(oldest // self._seconds)
        for stale in [one for one in self._kept if one < end]:
            del self._kept[stale]
        if step >= end:
            self._kept[step] = replace(sample)

    def between(self, first: int, end: int) -> Statistics | None:
        together: Statistics | None = None
        for step in range(first, end):
            sample = self._kept.get(step)
            if sample is not None and together is None:
                together = replace(sample)
            elif sample is not None and together is not None:
                together.add(sample)
        return together


class _Series:
    def __init__(self, step_seconds: float) -> None:
        self.unit = "None"
        self.last = 0.0
        self.steps = _Steps(step_seconds)
        self.minutes = _Steps(_MINUTE)


class Metrics:
    """All metrics; to be used from any thread.

    Attributes:
        step_seconds: How often there is something new for alarms, in real seconds.
    """

    def __init__(self, wait_scale: float) -> None:
        """Takes what the waits of deployments, and so the periods of alarms, are multiplied by."""
        self.step_seconds = max(_STEP_SECONDS * wait_scale, _LEAST_STEP_SECONDS)
        self._wait_scale = wait_scale
        self._lock = threading.Lock()
        self._series: dict[Metric, _Series] = {}

    def add(
        self, metric: Metric, sample: Statistics, unit: str = "None", at: float | None = None
    ) -> None:
        """Adds values, at a moment or now; those older than three hours are dropped.

        Alarms see a value when it comes if it is of this minute: a minute is how precise
        CloudWatch's own moments are, and many steps of scaled time.
        """
        now = time.time()
        with self._lock:
            series = self._series.get(metric) or self._new(metric)
            series.unit, series.last = unit, now
            series.minutes.add(now if at is None else at, sample, now - KEPT_SECONDS)
            if at is None or abs(at - now) < _MINUTE:
                series.steps.add(now, sample, now - _MOST_STEPS * self.step_seconds)

    def newest(
        self, metric: Metric, unit: str | None, period: float, periods: int
    ) -> list[tuple[float, Statistics | None]]:
        """What came in each of the newest periods of an alarm.

        Args:
            metric: The metric.
            unit: Only data of this unit.
            period: Length of a period in seconds that are not scaled yet.
            periods: How many.

        Returns:
            When each began, and its values; the newest first. It ends with the last whole step.
        """
        width = max(1, round(period * self._wait_scale / self.step_seconds))
        end = int(time.time() // self.step_seconds)
        starts = [end - number * width for number in range(1, periods + 1)]
        with self._lock:
            series = self._found(metric, unit)
            return [
                (
                    start * self.step_seconds,
                    series.steps.between(start, start + width) if series else None,
                )
                for start in starts
            ]

    def by_period(
        self, metric: Metric, unit: str | None, start: float, end: float, period: int
    ) -> list[tuple[float, Statistics]]:
        """What there is of each period of whole minutes, the oldest first.

        Args:
            metric: The metric.
            unit: Only data of this unit.
            start, end: From the period in which the one is to before the other.
            period: A multiple of 60 seconds.
        """
        first = max(start, time.time() - KEPT_SECONDS) // period * period
        end = min(end, time.time() + KEPT_SECONDS)
        width = period // 60
        data: list[tuple[float, Statistics]] = []
        with self._lock:
            series = self._found(metric, unit)
            while series is not None and first < end:
                minute = int(first // _MINUTE)
                together = series.minutes.between(minute, minute + width)
                if together is not None:
                    data.append((first, together))
                first += period
        return data

    def units(self) -> dict[Metric, str]:
        """All metrics that have data, with the unit of the newest."""
        with self._lock:
            return {metric: series.unit for metric, series in self._series.items()}

    def _found(self, metric: Metric, unit: str | None) -> _Series | None:
        series = self._series.get(metric)
        return series if series is not None and unit in (None, series.unit) else None

    def _new(self, metric: Metric) -> _Series:
        if len(self._series) >= _MOST_METRICS:
            del self._series[min(self._series, key=lambda one: self._series[one].last)]
        series = self._series[metric] = _Series(self.step_seconds)
        return series


def count_invocation(
    metrics: Metrics, endpoint: str, config: str, variant: str, status: int, seconds: float
) -> None:
    """Counts a request, for its variant and for its variant by its endpoint configuration.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html

    Args:
        metrics: Where.
        endpoint, config, variant: Who answered.
        status: What the container answered; 0 says that it did not.
        seconds: How long the container took.
    """
    values = {
        "Invocations": (1.0, "None"),
        "Invocation4XXErrors": (float(400 <= status < 500), "None"),
        "Invocation5XXErrors": (float(status == 0 or status >= 500), "None"),
        "ModelLatency": (seconds * 1e6, "Microseconds"),
    }
    of_variant = (("EndpointName", endpoint), ("VariantName", variant))
    # With it an alarm sees the new fleet of a deployment alone.
    of_config = (("EndpointConfigName", config), *of_variant)
    for name, (value, unit) in values.items():
        for dimensions in (of_variant, of_config):
            metrics.add(Metric("AWS/SageMaker", name, dimensions), Statistics.of(value), unit)
