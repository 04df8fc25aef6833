"""What the digits have cost in this calendar month (UTC), as far as prices are configured.

Models and endpoints of pipelines in YAML are not counted.

Training jobs: what their materialisations say (`estimated_cost`, counted once however many dates
use the model); jobs that failed are not among them. The endpoint: its hours, from a deployment to
its teardown. All of it in the currency of PLATFORM_PRICE_PER_HOUR, and from Dagster's records, so
that whoever asks gets the same.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from monitoring.findings import Finding, Problem, Resolved
from monitoring.runs import end_of
from platform_assets.alert_settings import AlertSettings
from platform_assets.mnist.deployed import JOBS
from platform_assets.mnist.endpoint import mnist_endpoint
from platform_assets.mnist.model import mnist_model
from platform_assets.models.endpoint import Endpoint

_PAGE = 500


class Spend(BaseModel):
    """What was spent in a month, added up as it comes: a look reads what is new.

    Attributes:
        month: `2026-01` for instance.
        storage_id: Of the last materialisation that is counted.
    """

    month: str = ""
    storage_id: int = 0
    training: float = 0
    endpoint: float = 0

    def up_to(
        self,
        instance: dg.DagsterInstance,
        endpoint: Endpoint,
        price_per_hour: Mapping[str, float],
        now: datetime,
    ) -> "Spend":
        """The same with what was spent since, or what was spent in a month that is new."""
        month = f"{now:%Y-%m}"
        before = self if self.month == month else Spend(month=month)
        training, last = before.training, before.storage_id
        while True:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(
                    asset_key=mnist_model.key,
                    after_timestamp=_month_start(now).timestamp(),
                    after_storage_id=last,
                ),
                limit=_PAGE,
                ascending=True,
            ).records
            if not records:
                break
            training += sum(map(_cost, records))
            last = records[-1].storage_id
        price = price_per_hour.get(endpoint.instance_type, 0) * endpoint.instance_count
        return Spend(
            month=month,
            storage_id=last,
            training=training,
            endpoint=price * _endpoint_hours(instance, now) if price else 0,
        )


def _endpoint_hours(instance: dg.DagsterInstance, now: datetime) -> float:
    """Hours of this month in which the endpoint was there: from a deployment to the teardown."""
    month = _month_start(now)
    torn_down = dg.RunsFilter(
        job_name=JOBS.tear_down, statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=month
    )
    teardowns = instance.get_run_records(torn_down, order_by="update_timestamp", ascending=True)
    began = month.timestamp() if _is_there(instance, month) else None
    seconds, since = 0.0, month.timestamp()
    for end in (*map(end_of, teardowns), now.timestamp()):
        if began is None:
            began = _first_deployment(instance, since)
        if began is not None:
            seconds += max(0, end - began)
        since, began = end, None
    return seconds / 3600


def _is_there(instance: dg.DagsterInstance, moment: datetime) -> bool:
    """Whether the endpoint was there at a moment."""
    deployed = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=mnist_endpoint.key, before_timestamp=moment.timestamp()),
        limit=1,
    ).records
    torn_down = instance.get_run_records(
        dg.RunsFilter(
            job_name=JOBS.tear_down,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            updated_before=moment,
        ),
        limit=1,
        order_by="update_timestamp",
    )
    return bool(deployed) and all(end_of(run) < deployed[0].timestamp for run in torn_down)


def _first_deployment(instance: dg.DagsterInstance, since: float) -> float | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=mnist_endpoint.key, after_timestamp=since),
        limit=1,
        ascending=True,
    ).records
    return records[0].timestamp if records else None


def spend_findings(settings: AlertSettings, spend: Spend) -> Iterator[Finding]:
    """A problem where a month's spend is above the limit."""
    key = f"spend {spend.month}"
    if settings.spend_limit and spend.training + spend.endpoint > settings.spend_limit:
        yield Problem(
            key=key,
            title=f"The spend of {spend.month} is above its limit",
            assets=["mnist/model", "mnist/endpoint"],
            reason=(
                f"It is estimated to be more than {settings.spend_limit:g} (PLATFORM_SPEND_LIMIT)."
            ),
            figures=f"{spend.training:.2f} for training, {spend.endpoint:.2f} for the endpoint.",
            to_do="Look which runs train, and tear the endpoint down if nobody needs it.",
            link=settings.link("assets/mnist/model"),
        )
    elif settings.spend_limit:
        yield Resolved(key)  # the limit was raised


def _cost(record: dg.EventLogRecord) -> float:
    materialization = record.asset_materialization
    value = materialization.metadata.get("estimated_cost") if materialization else None
    return float(value.value or 0) if isinstance(value, dg.FloatMetadataValue) else 0


def _month_start(now: datetime) -> datetime:
    return datetime(now.year, now.month, 1, tzinfo=UTC)
