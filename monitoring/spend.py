"""What the platform has spent in this calendar month (UTC), as far as prices are configured.

Training jobs: what their materialisations say (`estimated_cost`, counted once however many dates
use the model); jobs that failed are not among them. The endpoint: its hours. All of it in the
currency of PLATFORM_PRICE_PER_HOUR.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from monitoring.problems import Problem
from monitoring.watch import Watch
from platform_assets.mnist.deployed import Endpoint
from platform_assets.mnist.model import mnist_model
from resources.sagemaker import EndpointState, SageMakerResource

_PAGE = 500


class Spend(BaseModel):
    """What was spent in a month, added up as it comes: a look reads what is new.

    Attributes:
        month: `2026-01` for instance.
        storage_id: Of the last materialisation that is counted.
        training: By training jobs.
        endpoint: By the endpoint; what was spent on one that is gone stays.
    """

    month: str = ""
    storage_id: int = 0
    training: float = 0
    endpoint: float = 0

    def up_to(self, instance: dg.DagsterInstance, endpoint: float, now: datetime) -> "Spend":
        """The same with what was spent since, or what was spent in a month that is new.

        Args:
            instance: Dagster's records.
            endpoint: What `endpoint_spend` says; 0 where it is not known.
            now: The time.
        """
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
        return Spend(
            month=month,
            storage_id=last,
            training=training,
            endpoint=max(before.endpoint, endpoint),
        )


def endpoint_spend(
    state: EndpointState | None, endpoint: Endpoint, sagemaker: SageMakerResource, now: datetime
) -> float:
    """What the endpoint that is there has cost in this month; 0 where there is none."""
    if state is None:
        return 0
    began = max(_month_start(now), state.created)
    hours = max(0, (now - began).total_seconds()) / 3600
    price = sagemaker.price_per_hour.get(endpoint.instance_type, 0)
    return hours * price * endpoint.instance_count


def overspending(watch: Watch, spend: Spend) -> Iterator[Problem]:
    """A problem where a month's spend is above the limit."""
    if watch.spend_limit and spend.training + spend.endpoint > watch.spend_limit:
        yield Problem(
            key=f"spend {spend.month}",
            title=f"The spend of {spend.month} is above its limit",
            assets=["mnist/model", "mnist/endpoint"],
            reason=f"It is estimated to be more than {watch.spend_limit:g} (PLATFORM_SPEND_LIMIT).",
            figures=f"{spend.training:.2f} for training, {spend.endpoint:.2f} for the endpoint.",
            to_do="Look which runs train, and tear the endpoint down if nobody needs it.",
            link=watch.link("assets/mnist/model"),
        )


def _cost(record: dg.EventLogRecord) -> float:
    materialization = record.asset_materialization
    value = materialization.metadata.get("estimated_cost") if materialization else None
    return float(value.value or 0) if isinstance(value, dg.FloatMetadataValue) else 0


def _month_start(now: datetime) -> datetime:
    return datetime(now.year, now.month, 1, tzinfo=UTC)
