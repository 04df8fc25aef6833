"""When listings are made: every day."""

import dagster as dg

from platform_assets.airbnb.listings import listings

listings_job = dg.define_asset_job(
    "listings",
    selection=dg.AssetSelection.groups("airbnb") - dg.AssetSelection.assets(listings.key),
    description="Takes the day's snapshot of the listings and crunches it.",
)

listings_daily = dg.build_schedule_from_partitioned_job(
    listings_job,
    name="listings_daily",
    description="The day that has just ended, at 00:30 UTC.",
    hour_of_day=0,
    minute_of_hour=30,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
