"""The one daily partitions definition, and the policies that every asset of a chain shares.

They are shared on purpose: with mixed backfill policies in one chain, Dagster lets a downstream
asset materialise in a backfill although a blocking check upstream has failed.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Dagster's tags of a run: of one partition, or of a range of them.
PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
# That a message names.
_MOST_DATES = 10


class PartitionSettings(BaseSettings):
    """The part of `settings.Settings` that has to be known before any asset is defined."""

    model_config = SettingsConfigDict(env_prefix="PLATFORM_", frozen=True)

    first_partition: date = Field(
        default=date(2015, 1, 1),
        description="The first day that can be materialised; Inside Airbnb's first files are of "
        "2015.",
    )


# Days in UTC, half-open.
DAILY = dg.DailyPartitionsDefinition(
    start_date=PartitionSettings().first_partition.isoformat(), timezone="UTC"
)
# A range of dates is one run, one container and one pass.
ONE_RUN = dg.BackfillPolicy.single_run()
# Of what the night's schedules make, from 00:30 UTC on: the UI shows it as late from 06:00 on where
# nothing of it was made since midnight. It does not look at which partition was made; that is the
# business of checks such as `yesterday_is_there`.
DUE_DAILY = dg.FreshnessPolicy.cron(
    deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=6), timezone="UTC"
)


def materialized_dates(instance: dg.DagsterInstance, asset: dg.AssetKey) -> list[str]:
    """The dates of an asset that are there, ascending; without those whose last run failed."""
    statuses = instance.get_status_by_partition(asset, DAILY.get_partition_keys(), DAILY) or {}
    materialized = dg.AssetPartitionStatus.MATERIALIZED
    return [date for date, status in statuses.items() if status is materialized]


def list_dates(dates: Sequence[str]) -> str:
    """Dates by name; of many the first ones, how many more there are, and the last one."""
    named = ", ".join(dates[:_MOST_DATES])
    more = len(dates) - _MOST_DATES
    return f"{named} and {more} more up to {dates[-1]}" if more > 0 else named
