"""When sources are looked at: every day, before anything is made of them."""

import dagster as dg

from platform_assets.mnist.raw import public_mnist
from platform_assets.settings import schedule_status
from platform_assets.tables.observed import OBSERVED

observe_sources = dg.define_asset_job(
    "observe_sources",
    selection=(
        dg.AssetSelection.assets(public_mnist)
        | dg.AssetSelection.tag(*OBSERVED, include_sources=True)
    ).without_checks(),
    description=(
        "Looks at the public digits, the table of listings and the tables of pipelines with "
        "observe: true, and notes which days have changed."
    ),
)

observe_sources_daily = dg.ScheduleDefinition(
    name="observe_sources_daily",
    job=observe_sources,
    cron_schedule="20 0 * * *",
    description="At 00:20 UTC, before the day's runs.",
    default_status=schedule_status(),
)
