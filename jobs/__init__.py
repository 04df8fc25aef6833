"""When things happen: jobs, schedules and sensors, one file a domain. What exists is elsewhere.

What all runs share, such as the executor, is set in `platform_assets/definitions.py`. Dagster's
tags for the dates of a run are in `platform_assets/partitions.py`, pools with the assets, limits of
runs in Dagster's own `dagster.yaml`. What the daily schedules share is in `daily.py`.
"""
