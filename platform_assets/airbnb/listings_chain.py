"""The chain of the listings: which assets its one step makes, and in which order."""

from platform_assets.airbnb.processed import NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES
from platform_assets.airbnb.snapshots import SNAPSHOT
from platform_assets.chain import build_chain

listings_chain = build_chain(
    "listings_chain",
    [SNAPSHOT, PRICE_CHANGES, NEIGHBOURHOOD_SUMMARY],
    # One of the checks counts rows in the database.
    checks_at_once=lambda resources: resources.listings_table.connections,
)
