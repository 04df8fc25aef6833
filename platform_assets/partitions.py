"""The one daily partitions definition, and the policies that every asset of a chain shares.

They are shared on purpose: with mixed backfill policies in one chain, Dagster lets a downstream
asset materialise in a backfill although a blocking check upstream has failed.
"""

import dagster as dg

from platform_assets.settings import Settings

# Days in UTC, half-open.
DAILY = dg.DailyPartitionsDefinition(
    start_date=Settings().first_partition.isoformat(), timezone="UTC"
)
# A range of dates is one run, one container and one pass.
ONE_RUN = dg.BackfillPolicy.single_run()
