"""The chain of the listings: which assets its one step makes, and in which order."""

from typing import Any

from platform_assets.airbnb.processed import NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES
from platform_assets.airbnb.snapshots import SNAPSHOT
from platform_assets.chain import build_chain

ASSETS = [SNAPSHOT, PRICE_CHANGES, NEIGHBOURHOOD_SUMMARY]


def checks_at_once(resources: Any) -> int:
    """How many dates are checked at a time: one of the checks counts rows in the database."""
    return resources.listings_table.connections


listings_chain = build_chain("listings_chain", ASSETS, checks_at_once=checks_at_once)
