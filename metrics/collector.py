"""What Prometheus gets: each metric, and where its numbers come from.

What cannot be reached gives no sample: `platform_source_up` says so. Nothing is changed by a look.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.alerts import due_daily
from monitoring.dates import Due, partition_rows, schedule_runs_since
from monitoring.runs import WAITING, WORKING, end_of
from monitoring.serving import ANSWER_SECONDS, is_expected, measure_latency
from monitoring.spend import Spend
from platform_assets.definitions import build_defs
from platform_assets.errors import EXPECTED
from platform_assets.lineage import specs_of
from platform_assets.mnist import deployed
from platform_assets.models.endpoint import Endpoint
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource

CACHE_SECONDS = 15.0
"""How long numbers are given again: many scrapes cost as much as one."""

_LOG = logging.getLogger(__name__)
_UNFINISHED = (*WAITING, *WORKING)
_FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
_Metrics = Iterator[Metric]


@dataclass(frozen=True)
class Newest:
    """The newest date of an asset.

    Attributes:
        last_storage_id: Of the asset's last materialisation when this was read.
        day: The date; empty where there is none.
        rows: Of that date; None where they are not counted.
    """

    last_storage_id: int | None
    day: str = ""
    rows: int | None = None


@dataclass
class Platform:
    """What is looked at.

    Attributes:
        sagemaker: Is asked; one that is in a hurry.
        newest: By asset, as it was read last.
    """

    instance: dg.DagsterInstance
    assets: Sequence[dg.AssetKey]
    checks: Sequence[dg.AssetCheckKey]
    due: Sequence[Due]
    store: ObjectStore
    endpoint: Endpoint
    sagemaker: SageMakerResource
    spend: Spend = field(default_factory=Spend)
    newest: dict[dg.AssetKey, Newest] = field(default_factory=dict)

    def read_runs(self) -> _Metrics:
        """Runs by state, the queue and the pools."""
        instance = self.instance
        runs = _gauge("runs", "Runs that are unfinished, or ended in the last 24 hours.", "status")
        oldest = _gauge(
            "oldest_unfinished_run_timestamp_seconds", "When it came into its status.", "status"
        )
        yesterday = datetime.now(UTC) - timedelta(days=1)
        for status in (*_UNFINISHED, *_FINISHED):
            since = None if status in _UNFINISHED else yesterday
            filters = dg.RunsFilter(statuses=[status], updated_after=since)
            runs.add_metric([status.value], instance.get_runs_count(filters))
        for status in _UNFINISHED:
            first = instance.get_run_records(
                dg.RunsFilter(statuses=[status]),
                limit=1,
                order_by="update_timestamp",
                ascending=True,
            )
            for record in first:
                oldest.add_metric([status.value], record.update_timestamp.timestamp())
        failed = _gauge("last_failed_run_timestamp_seconds", "When the last failed run ended.")
        for record in instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]),
            limit=1,
            order_by="update_timestamp",
        ):
            failed.add_metric([], end_of(record))
        slots = _gauge("pool_slots", "How many steps may be in a pool.", "pool")
        claimed = _gauge("pool_claimed_slots", "How many are.", "pool")
        pending = _gauge("pool_pending_steps", "How many wait for it.", "pool")
        records = instance.event_log_storage
        for pool in sorted(records.get_concurrency_keys()):
            info = records.get_concurrency_info(pool)
            slots.add_metric([pool], info.slot_count)
            claimed.add_metric([pool], len(info.claimed_slots))
            pending.add_metric([pool], info.pending_step_count)
        yield from (runs, oldest, failed, slots, claimed, pending)

    def read_daemons(self) -> _Metrics:
        """When each of Dagster's daemons that have to be there was last at work."""
        beats = _gauge(
            "daemon_heartbeat_timestamp_seconds", "When it was last at work; 0: never.", "daemon"
        )
        known = self.instance.get_daemon_heartbeats()
        for name in self.instance.get_required_daemon_types():
            beats.add_metric([name], known[name].timestamp if name in known else 0)
        yield beats

    def read_schedules(self) -> _Metrics:
        """Which assets are made daily, since when, and at which time."""
        since = _gauge(
            "scheduled_since_timestamp_seconds",
            "Since when a schedule that runs has been making it; none where it is stopped.",
            "asset",
        )
        after = _gauge(
            "scheduled_after_seconds",
            "How long after a day's end (UTC) a schedule that runs asks for it.",
            "asset",
        )
        for due in self.due:
            running_since = schedule_runs_since(self.instance, due)
            if running_since is not None:
                for key in due.assets:
                    since.add_metric([key.to_user_string()], running_since.timestamp())
                    after.add_metric([key.to_user_string()], due.asked_after.total_seconds())
        yield from (since, after)

    def read_assets(self) -> _Metrics:
        """The newest date of each asset, and its rows."""
        newest = _gauge(
            "newest_partition_timestamp_seconds", "Begin of the newest day that is there.", "asset"
        )
        rows = _gauge("newest_partition_rows", "Rows of the newest day that is there.", "asset")
        for record in self.instance.get_asset_records(self.assets):
            key = record.asset_entry.asset_key
            last = record.asset_entry.last_materialization_storage_id
            # Thousands of dates are read anew only where another one has come.
            if key not in self.newest or self.newest[key].last_storage_id != last:
                self.newest[key] = self._read_newest(key, last)
            day, count = self.newest[key].day, self.newest[key].rows
            if day:
                begin = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
                newest.add_metric([key.to_user_string()], begin.timestamp())
            if count is not None:
                rows.add_metric([key.to_user_string()], count)
        yield from (newest, rows)

    def _read_newest(self, key: dg.AssetKey, last_storage_id: int | None) -> Newest:
        day = max(self.instance.get_materialized_partitions(key), default="")
        if not day:
            return Newest(last_storage_id)
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day]), limit=1
        ).records
        events = [record.asset_materialization for record in records]
        rows = [partition_rows(event) for event in events if event]
        return Newest(last_storage_id, day, rows[0] if rows else None)

    def read_checks(self) -> _Metrics:
        """Whether each check's last evaluation failed."""
        failed = _gauge(
            "check_failed",
            "1 where the last evaluation failed, 0 where it passed; a failed one is of the level "
            "error or only warn.",
            "asset",
            "check",
            "level",
        )
        for key in self.checks:
            record = self.instance.get_latest_asset_check_evaluation_record(key)
            evaluation = record.evaluation if record else None
            # One that is only planned has none.
            if isinstance(evaluation, dg.AssetCheckEvaluation):
                level = evaluation.severity.value.lower()
                labels = [key.asset_key.to_user_string(), key.name, level]
                failed.add_metric(labels, not evaluation.passed)
        yield failed

    def read_spend(self) -> _Metrics:
        """What the month has cost."""
        now = datetime.now(UTC)
        prices = self.sagemaker.price_per_hour
        self.spend = self.spend.up_to(self.instance, self.endpoint, prices, now)
        spend = _gauge("estimated_spend", "Of the month, in the currency of the prices.", "kind")
        spend.add_metric(["training"], self.spend.training)
        spend.add_metric(["endpoint"], self.spend.endpoint)
        yield spend

    def read_endpoint(self) -> _Metrics:
        """Whether the endpoint answers, and in which time."""
        state = self.sagemaker.describe_endpoint(self.endpoint.name)
        in_service = _gauge("endpoint_in_service", "1 where it is; none before its first deploy.")
        if is_expected(self.instance):
            in_service.add_metric([], bool(state and state.in_service))
        yield in_service
        if state and state.in_service:
            latency = _gauge("endpoint_latency_seconds", "Of the answer to an empty picture.")
            latency.add_metric([], measure_latency(self.sagemaker, self.endpoint.name))
            yield latency

    def read_classifier(self) -> _Metrics:
        """How good the classifier is that is live."""
        accuracy = _gauge("live_model_accuracy", "Share of test digits that it reads rightly.")
        live = deployed.find_live(self.store, self.sagemaker, self.endpoint.name)
        if live is not None:
            accuracy.add_metric([], live.files.manifest.extra["accuracy"])
        yield accuracy


class PlatformCollector(Collector):
    """Gives what `Platform` reads, at most every `CACHE_SECONDS` anew."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._read_at = -CACHE_SECONDS

    def collect(self) -> list[Metric]:
        """All metrics."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_SECONDS:
                self._metrics = self._read()
                self._read_at = time.monotonic()
            return self._metrics

    def _read(self) -> list[Metric]:
        platform = self._platform
        sources: dict[str, Sequence[Callable[[], _Metrics]]] = {
            "dagster": [
                platform.read_runs,
                platform.read_daemons,
                platform.read_assets,
                platform.read_checks,
                platform.read_schedules,
                platform.read_spend,
            ],
            "sagemaker": [platform.read_endpoint],
            "s3": [platform.read_classifier],
        }
        up = _gauge("source_up", "1 where it could be asked, 0 where it could not.", "source")
        metrics: list[Metric] = [up]
        for source, readers in sources.items():
            reachable = True
            for read in readers:
                try:
                    # What was read before it broke off is as true as ever.
                    for metric in read():
                        metrics.append(metric)  # noqa: PERF402
                except Exception as error:  # whatever it is: a scrape gives what there is
                    # Others than these may have a secret in their words.
                    why = str(error) if isinstance(error, EXPECTED) else type(error).__name__
                    _LOG.warning("%s could not be read: %s", source, why)
                    reachable = False
            up.add_metric([source], reachable)
        return metrics


def load() -> PlatformCollector:
    """The platform of this environment: settings, definitions, and Dagster's instance."""
    defs = build_defs()
    repository = defs.get_repository_def()
    definitions = list(repository.assets_defs_by_key.values())
    checks = {key for definition in definitions for key in definition.check_keys}
    checks |= set(repository.asset_checks_defs_by_key)
    specs = specs_of(definition for definition in definitions if definition.is_materializable)
    assets = {spec.key for spec in specs if spec.partitions_def}
    instance = dg.DagsterInstance.get()
    names = ("digits_store", "endpoint", "sagemaker")
    # Never left: the resources live as long as the process.
    resources = ExitStack().enter_context(
        dg.build_resources(
            {name: (defs.resources or {})[name] for name in names}, instance=instance
        )
    )
    return PlatformCollector(
        Platform(
            instance=instance,
            assets=sorted(assets),
            checks=sorted(checks, key=str),
            due=due_daily(repository),
            store=resources.digits_store,
            endpoint=resources.endpoint,
            sagemaker=resources.sagemaker.hurried(ANSWER_SECONDS),
        )
    )


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"platform_{name}", documentation, labels=labels)
