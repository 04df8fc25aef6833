"""When listings are made, and when it is looked whether they were: every day."""

import dagster as dg

from jobs.daily import build_daily_schedule
from platform_assets.airbnb.observed_listings import listings
from platform_assets.airbnb.snapshots import SNAPSHOT, yesterday_is_there
from platform_assets.settings import schedule_status

listings_job = dg.define_asset_job(
    "listings",
    selection=dg.AssetSelection.groups("airbnb") - dg.AssetSelection.assets(listings.key),
    description="Takes the day's snapshot of the listings and crunches it.",
)

listings_daily = build_daily_schedule(
    listings_job,
    name="listings_daily",
    asset=SNAPSHOT.key,
    cron_schedule="30 0 * * *",
    description="The day that has just ended, at 00:30 UTC.",
)

listings_freshness = dg.define_asset_job(
    "listings_freshness",
    selection=dg.AssetSelection.checks(yesterday_is_there),
    description="Looks whether the day that has just ended is published.",
)

listings_freshness_daily = dg.ScheduleDefinition(
    name="listings_freshness_daily",
    job=listings_freshness,
    cron_schedule="0 6 * * *",
    description="At 06:00 UTC, when the day's run has long ended.",
    default_status=schedule_status(),
)
