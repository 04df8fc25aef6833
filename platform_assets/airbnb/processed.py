"""Results of the number cruncher, which works on all dates of a run in one pass outside Dagster.

What it computes, and how it publishes, stands in `numbercruncher`; where it runs, in
`resources.docker`. Here its messages become materialisations.
"""

import dagster as dg

PRICE_CHANGES = dg.AssetKey(["airbnb", "price_changes"])
NEIGHBOURHOOD_SUMMARY = dg.AssetKey(["airbnb", "neighbourhood_summary"])
CODE_VERSION = "1"


def prefix(asset: dg.AssetKey, date: str) -> str:
    """Where a date's result stands."""
    return f"{'/'.join(asset.path)}/date={date}"
